"""The span around one offset commit, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.structs import TopicPartition
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import NoOpTracer, SpanKind

from kafkaesk_core import CommitCall, Subscription

from .conventions import PARTITION_ID
from .operation import Operation, Telemetry
from .suppression import is_suppressed

__all__ = ["Settling"]

Offsets = Mapping[TopicPartition, int]


class Settling:
    """Makes Settle spans, CLIENT, of the commits that the settings ask for; measures all."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._spans = telemetry.settings.settle_spans
        self._no_tracer = NoOpTracer()

    async def around(
        self, offsets: Offsets, call_next: CommitCall, reason: str, subscription: Subscription
    ) -> None:
        """Commit, in a span if it is one to be seen."""
        try:
            settle = self._begin(offsets, reason, subscription)
        except Exception as error:
            self._telemetry.failures.note("beginning a commit span", error)
            settle = None
        if settle is None:
            return await call_next(offsets)
        token = attach(settle.context)
        raised: BaseException | None = None
        try:
            return await call_next(offsets)
        except BaseException as error:
            raised = error
            raise
        finally:
            detach(token)
            self._end(settle, raised)
            raised = None  # or it would keep its own frame alive

    def _begin(self, offsets: Offsets, reason: str, subscription: Subscription) -> Operation | None:
        current = get_current()
        if is_suppressed(current):
            return None
        topics = {partition.topic for partition in offsets}
        view = self._telemetry.views.commit(
            subscription, topics.pop() if len(topics) == 1 else None
        )
        if view is None:
            return None
        has_span = self._spans == "all" or (self._spans == "manual" and reason == "manual")
        tracer = self._telemetry.tracer if has_span else self._no_tracer
        settle = Operation(tracer, view, SpanKind.CLIENT, current)
        if settle.is_recording and len(offsets) == 1:
            (partition,) = offsets
            settle.span.set_attribute(PARTITION_ID, str(partition.partition))
        return settle

    def _end(self, settle: Operation, error: BaseException | None) -> None:
        try:
            kind = None if error is None else settle.fail(error)
            seconds = settle.end()
            instruments = self._telemetry.instruments
            if instruments is not None:
                instruments.operated(seconds, settle.view.labels, kind, settle.context)
        except Exception as failure:
            self._telemetry.failures.note("ending a commit span", failure)

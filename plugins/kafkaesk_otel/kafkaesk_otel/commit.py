"""The span around one offset commit, and its duration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry.context import get_current
from opentelemetry.trace import NoOpTracer, SpanKind

from .sdk import is_suppressed
from .semconv import PARTITION_ID
from .span import OperationSpan

if TYPE_CHECKING:
    from kafkaesk_core import CommitCall, Subscription, TopicPartition

    from .span import Telemetry

__all__ = ["CommitSpans"]

Offsets = Mapping["TopicPartition", int]


class CommitSpan(OperationSpan):
    """A Settle span, CLIENT."""

    __slots__ = ()

    operation = "commit"

    def left(self, error: BaseException | None) -> None:
        """End the span and measure the commit."""
        kind = None if error is None else self.fail(error)
        seconds = self.end()
        metrics = self._telemetry.metrics
        if metrics is not None:
            metrics.operated(seconds, self.template.labels, kind, self.context)


class CommitSpans:
    """Creates spans for the commits that the settings select; measures all commits."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._spans = telemetry.settings.settle_spans
        self._no_tracer = NoOpTracer()

    async def around(
        self, offsets: Offsets, call_next: CommitCall, reason: str, subscription: Subscription
    ) -> None:
        """Commit, inside the span if there is one."""
        span = self._telemetry.begin("commit", self._begin, offsets, reason, subscription)
        if span is None:
            return await call_next(offsets)
        with span:
            return await call_next(offsets)

    def _begin(
        self, offsets: Offsets, reason: str, subscription: Subscription
    ) -> CommitSpan | None:
        current = get_current()
        if is_suppressed(current):
            return None
        topics = {partition.topic for partition in offsets}
        template = self._telemetry.templates.commit(
            subscription, topics.pop() if len(topics) == 1 else None
        )
        if template is None:
            return None
        has_span = self._spans == "all" or (self._spans == "manual" and reason == "manual")
        tracer = None if has_span else self._no_tracer
        span = CommitSpan(self._telemetry, template, SpanKind.CLIENT, current, tracer=tracer)
        if span.is_recording and len(offsets) == 1:
            (partition,) = offsets
            span.span.set_attribute(PARTITION_ID, str(partition.partition))
        return span

"""One span and its clock: from a start to an end that spans and durations share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from kafkaesk_core.plugin import CountedFailures

from .conventions import CANCELLED, DISPOSITION, ERROR_TYPE
from .error_type import disposition_of, error_type, failed_by, is_shutdown
from .instruments import Instruments
from .propagation import Propagation
from .settings import OTelSettings
from .views import View, Views

__all__ = ["Operation", "Telemetry"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What operations write to; without `instruments` nothing is measured."""

    tracer: Tracer
    instruments: Instruments | None
    views: Views
    propagation: Propagation
    settings: OTelSettings
    failures: CountedFailures


class Operation:
    """A span that has begun, and the context that it is current in.

    The span ends when `end` is called; the duration is measured with a clock that never goes back.
    """

    __slots__ = ("_began", "_began_at", "context", "is_recording", "span", "view")

    def __init__(
        self,
        tracer: Tracer,
        view: View,
        kind: SpanKind,
        parent: Context,
        links: Sequence[Link] = (),
    ) -> None:
        self.view = view
        self._began_at = time.time_ns()
        self._began = time.perf_counter_ns()
        self.span: Span = tracer.start_span(
            view.name, parent, kind, view.attributes, links, self._began_at
        )
        self.context = set_span_in_context(self.span, parent)
        self.is_recording = self.span.is_recording()

    def fail(self, error: BaseException) -> str | None:
        """Note what was raised, and return its `error.type`; None if that is no failure."""
        if is_shutdown(error):
            self.span.set_attribute(CANCELLED, True)
            return None
        failure = failed_by(error)
        if failure is None:
            self._decided(error)
            return None
        kind = error_type(failure)
        if self.is_recording:
            self.span.record_exception(failure)
            self.span.set_status(Status(StatusCode.ERROR, str(failure)))
            self.span.set_attribute(ERROR_TYPE, kind)
        return kind

    def _decided(self, error: BaseException) -> None:
        disposition = disposition_of(error)
        if not self.is_recording or disposition is None:
            return
        self.span.set_attribute(DISPOSITION, disposition)
        why = error.__cause__ or error.__context__
        if isinstance(why, Exception):
            self.span.record_exception(why)

    def end(self) -> float:
        """End the span, and return how many seconds it took."""
        took = time.perf_counter_ns() - self._began
        if self.is_recording:
            self.span.end(self._began_at + took)
        return took / 1e9

"""One span and its clock, shared by sending, handling and committing."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, ParamSpec, Self, TypeVar

from opentelemetry.context import attach, detach
from opentelemetry.trace import (
    Status,
    StatusCode,
    set_span_in_context,
)

from kafkaesk_core import BatchFailure, Defer, Disposition, Retry, Skip

from .semconv import CANCELLED, DISPOSITION, ERROR_TYPE, error_type

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import (
        Link,
        Span,
        SpanKind,
        Tracer,
    )

    from kafkaesk_core.plugin import CountedFailures

    from .attributes import SpanTemplate, SpanTemplates
    from .metrics import Metrics
    from .propagation import Propagation
    from .settings import OTelSettings

__all__ = ["OperationSpan", "Telemetry"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The shared parts of an application's spans; without `metrics` nothing is measured."""

    tracer: Tracer
    metrics: Metrics | None
    templates: SpanTemplates
    propagation: Propagation
    settings: OTelSettings
    failures: CountedFailures

    def begin(
        self, operation: str, begin: Callable[P, T | None], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Start a span; return None if it is excluded, or if the start fails, which is counted."""
        try:
            return begin(*args, **kwargs)
        except Exception as error:
            self.failures.note(f"beginning a {operation} span", error)
            return None


class OperationSpan(ABC):
    """A started span, and the context in which it is current.

    Entering the object makes the span current; leaving it calls `left`, and failures of `left` are
    counted. `end` ends the span; a monotonic clock measures the duration.
    """

    __slots__ = (
        "_began",
        "_began_at",
        "_telemetry",
        "_token",
        "context",
        "is_recording",
        "span",
        "template",
    )

    operation: ClassVar[str]
    _token: Token[Context]

    def __init__(
        self,
        telemetry: Telemetry,
        template: SpanTemplate,
        kind: SpanKind,
        parent: Context,
        links: Sequence[Link] = (),
        *,
        tracer: Tracer | None = None,
    ) -> None:
        self._telemetry = telemetry
        self.template = template
        self._began_at = time.time_ns()
        self._began = time.perf_counter_ns()
        self.span: Span = (tracer or telemetry.tracer).start_span(
            template.name, parent, kind, template.attributes, links, self._began_at
        )
        self.context = set_span_in_context(self.span, parent)
        self.is_recording = self.span.is_recording()

    def __enter__(self) -> Self:
        self._token = attach(self.context)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        detach(self._token)  # also what the code inside attached and did not detach
        try:
            self.left(error)
        except Exception as failure:
            self._telemetry.failures.note(f"ending a {self.operation} span", failure)

    @abstractmethod
    def left(self, error: BaseException | None) -> None:
        """End the span and measure it; `error` is the exception of the code inside."""

    def fail(self, error: BaseException) -> str | None:
        """Record the exception, and return its `error.type`; None if it is not a failure."""
        if is_shutdown(error):
            self.span.set_attribute(CANCELLED, True)
            return None
        failure = failed_by(error)
        if failure is None:
            self._show_decision(error)
            return None
        kind = error_type(failure)
        if self.is_recording:
            self.span.record_exception(failure)
            self.span.set_status(Status(StatusCode.ERROR, str(failure)))
            self.span.set_attribute(ERROR_TYPE, kind)
        return kind

    def _show_decision(self, error: BaseException) -> None:
        disposition = disposition_of(error)
        if not self.is_recording or disposition is None:
            return
        self.span.set_attribute(DISPOSITION, disposition)
        why = error.__cause__ or error.__context__
        if isinstance(why, Exception):
            self.span.record_exception(why)

    def end(self) -> float:
        """End the span, and return its duration in seconds."""
        took = time.perf_counter_ns() - self._began
        if self.is_recording:
            self.span.end(self._began_at + took)
        return took / 1e9


# --- which errors are failures


def disposition_of(error: BaseException) -> str | None:
    """Return "skip", "retry" or "defer" for such a disposition, which is not a failure."""
    if isinstance(error, (Skip, Retry, Defer)):
        return type(error).__name__.lower()
    return None


def is_shutdown(error: BaseException) -> bool:
    """Whether the running task is being cancelled: nothing failed; the message is redelivered."""
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, (KeyboardInterrupt, SystemExit))
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def failed_by(error: BaseException) -> BaseException | None:
    """Return the failure to show in a span; None if `error` only decides on messages.

    If several messages of a batch failed, the first failure is returned.
    """
    if isinstance(error, BatchFailure):
        failures = (failed_by(each) for each in error.errors.values())
        return next((failure for failure in failures if failure is not None), None)
    if isinstance(error, Disposition) and disposition_of(error) is not None:
        return None
    return error

"""The span around handling one message, or one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    SpanKind,
    get_current_span,
    set_span_in_context,
)

from kafkaesk_core import ConsumeBatchCall, ConsumeCall, IncomingMessage, Subscription

from .captured import key_text, of_incoming, schema_of
from .conventions import BATCH_COUNT, MESSAGE_KEY, OFFSET
from .operation import Operation, Telemetry
from .suppression import is_suppressed
from .views import View

__all__ = ["PROCESS", "OnProcess", "Process", "Processing", "current_process_span"]

OnProcess = Callable[[Span, IncomingMessage], None]
Messages = Sequence[IncomingMessage]

HANDLED_ERRORS = "handled_errors"


class Process(Operation):
    """A Process span; `creation` is the context that the one message was sent in."""

    __slots__ = ("creation", "messages")

    creation: SpanContext | None
    messages: Messages


PROCESS: ContextVar[Process | None] = ContextVar("kafkaesk_otel", default=None)


def current_process_span() -> Span:
    """Return the span of the message, or batch, that is being handled here.

    `opentelemetry.trace.get_current_span()` is the innermost span, which may be another.
    """
    process = PROCESS.get()
    return INVALID_SPAN if process is None else process.span


class Processing:
    """Makes Process spans, CONSUMER, current while layers further in and the handler run."""

    def __init__(self, telemetry: Telemetry, on_process: OnProcess | None = None) -> None:
        self._telemetry = telemetry
        self._views = telemetry.views
        self._settings = telemetry.settings
        self._parent = telemetry.settings.process_parent
        self._on_process = on_process

    async def around_one(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:
        """Handle one message in a span."""
        try:
            process = self._begin_one(message, subscription)
        except Exception as error:
            self._telemetry.failures.note("beginning a process span", error)
            process = None
        if process is None:
            return await call_next(message)
        return await self._around(process, message, call_next)

    async def around_batch(
        self, messages: Messages, call_next: ConsumeBatchCall, subscription: Subscription
    ) -> Any:
        """Handle one batch in a span."""
        try:
            process = self._begin_batch(messages, subscription)
        except Exception as error:
            self._telemetry.failures.note("beginning a process span", error)
            process = None
        if process is None:
            return await call_next(messages)
        return await self._around(process, messages, call_next)

    async def _around(self, process: Process, subject: Any, call_next: Callable[..., Any]) -> Any:
        attached = attach(process.context)
        noted = PROCESS.set(process)
        raised: BaseException | None = None
        try:
            return await call_next(subject)
        except BaseException as error:
            raised = error
            raise
        finally:
            PROCESS.reset(noted)
            detach(attached)  # also of what the handler attached and left so
            self._end(process, raised)
            raised = None  # or it would keep its own frame alive

    # --- beginning

    def _view(self, message: IncomingMessage, subscription: Subscription) -> View | None:
        return self._views.process(subscription, message.topic, message.partition)

    def _begin_one(self, message: IncomingMessage, subscription: Subscription) -> Process | None:
        current = get_current()
        if is_suppressed(current):
            return None
        view = self._view(message, subscription)
        if view is None:
            return None
        extracted, creation = self._extract(message, current)
        links = [] if creation is None else [Link(creation)]
        parent = self._parent_of(current, extracted, creation, links)
        process = Process(self._telemetry.tracer, view, SpanKind.CONSUMER, parent, links)
        process.creation, process.messages = creation, (message,)
        self._describe(process, message, of_incoming)
        if message.attempt == 1:
            self._count(process, 1)
        return process

    def _extract(
        self, message: IncomingMessage, current: Context
    ) -> tuple[Context, SpanContext | None]:
        """What the message's headers say, and the creation context in it."""
        headers = message.headers
        if not headers:
            return current, None
        extracted = self._telemetry.propagation.extract(headers, current)
        if extracted is current:
            return current, None
        span = get_current_span(extracted)
        if span is get_current_span(current):
            return extracted, None  # baggage alone
        creation = span.get_span_context()
        return extracted, creation if creation.is_valid else None

    def _parent_of(
        self,
        current: Context,
        extracted: Context,
        creation: SpanContext | None,
        links: list[Link],
    ) -> Context:
        """Choose the parent; a valid one that was not chosen becomes a link."""
        if self._parent == "creation" and not current:
            return extracted
        ambient = get_current_span(current)
        has_ambient = ambient.get_span_context().is_valid
        if self._parent == "root":
            if has_ambient:
                links.append(Link(ambient.get_span_context()))
            return set_span_in_context(INVALID_SPAN, extracted)
        if not has_ambient:
            return extracted
        if self._parent == "ambient" or creation is None:
            return set_span_in_context(ambient, extracted)
        links.append(Link(ambient.get_span_context()))
        return extracted

    def _begin_batch(self, messages: Messages, subscription: Subscription) -> Process | None:
        current = get_current()
        first = messages[0]
        if is_suppressed(current):
            return None
        view = self._view(first, subscription)
        if view is None:
            return None
        links = [link for link in (self._link_to(message) for message in messages) if link]
        parent = current
        if self._parent == "root":
            parent = set_span_in_context(INVALID_SPAN, current)
        process = Process(self._telemetry.tracer, view, SpanKind.CONSUMER, parent, links)
        process.creation, process.messages = None, messages
        self._describe(process, first, lambda *_: {BATCH_COUNT: len(messages)})
        self._count(process, sum(message.attempt == 1 for message in messages))
        return process

    def _link_to(self, message: IncomingMessage) -> Link | None:
        """What differs between the messages of a batch stands at their links."""
        _, creation = self._extract(message, Context())
        if creation is None:
            return None
        attributes: dict[str, str | int] = {OFFSET: message.offset}
        key = key_text(message.key) if self._settings.capture_key else None
        if key is not None:
            attributes[MESSAGE_KEY] = key
        return Link(creation, attributes)

    def _describe(
        self, process: Process, message: IncomingMessage, attributes: Callable[..., Any]
    ) -> None:
        if not process.is_recording:
            return
        process.span.set_attributes(attributes(message, self._settings))
        if self._on_process is not None:
            try:
                self._on_process(process.span, message)
            except Exception as error:
                self._telemetry.failures.note("on_process", error)

    def _count(self, process: Process, count: int) -> None:
        instruments = self._telemetry.instruments
        if instruments is not None and count:
            instruments.delivered(count, process.view.counted, process.context)

    # --- ending

    def _end(self, process: Process, error: BaseException | None) -> None:
        try:
            kind = None if error is None else process.fail(error)
            if process.is_recording:
                self._tell_result(process)
            seconds = process.end()
            instruments = self._telemetry.instruments
            if instruments is not None:
                instruments.processed(seconds, process.view.labels, kind, process.context)
        except Exception as failure:
            self._telemetry.failures.note("ending a process span", failure)

    @staticmethod
    def _tell_result(process: Process) -> None:
        span = process.span
        for message in process.messages:
            for handled in message.meta.get(HANDLED_ERRORS, ()):
                span.record_exception(handled)
        if len(process.messages) == 1:
            span.set_attributes(schema_of(process.messages[0]))

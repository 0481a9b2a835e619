"""The span around handling one message, or one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    get_current_span,
    set_span_in_context,
)

from kafkaesk_core import (
    IncomingMessage,
)

from .attributes import key_text, of_incoming, schema_of
from .sdk import is_suppressed
from .semconv import BATCH_COUNT, MESSAGE_KEY, OFFSET
from .span import OperationSpan

if TYPE_CHECKING:
    from opentelemetry.trace import (
        SpanContext,
    )

    from kafkaesk_core import (
        ConsumeBatchCall,
        ConsumeCall,
        RecordMetadata,
        Subscription,
    )

    from .span import Telemetry

__all__ = ["PROCESS", "OnProcess", "ProcessSpan", "ProcessSpans", "current_process_span"]

OnProcess = Callable[[Span, IncomingMessage], None]
Messages = Sequence[IncomingMessage]

HANDLED_ERRORS, FORWARDED = "handled_errors", "forwarded"


class ProcessSpan(OperationSpan):
    """A Process span, CONSUMER; `creation` is the context in which a single message was sent."""

    __slots__ = ("_noted", "creation", "messages")

    operation = "process"
    creation: SpanContext | None
    messages: Messages
    _noted: Token[ProcessSpan | None]

    def __enter__(self) -> Self:
        super().__enter__()
        self._noted = PROCESS.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        PROCESS.reset(self._noted)
        super().__exit__(kind, error, traceback)

    def left(self, error: BaseException | None) -> None:
        """End the span and measure the handling."""
        kind = None if error is None else self.fail(error)
        if self.is_recording:
            self._describe_result()
        seconds = self.end()
        metrics = self._telemetry.metrics
        if metrics is not None:
            metrics.processed(seconds, self.template.labels, kind, self.context)

    def _describe_result(self) -> None:
        for message in self.messages:
            for handled in message.meta.get(HANDLED_ERRORS, ()):
                self.span.record_exception(handled)
            for metadata, began_ns, ended_ns in message.meta.get(FORWARDED, ()):
                self._show_forwarded(metadata, began_ns, ended_ns)
        if len(self.messages) == 1:
            self.span.set_attributes(schema_of(self.messages[0]))

    def _show_forwarded(self, metadata: RecordMetadata, began_ns: int, ended_ns: int) -> None:
        """Show where the record was forwarded to; no layer sees a forwarded record."""
        template = self._telemetry.templates.send(metadata.topic, metadata.partition)
        if template is not None:
            attributes = {**template.attributes, OFFSET: metadata.offset}
            tracer, kind = self._telemetry.tracer, SpanKind.PRODUCER
            span = tracer.start_span(
                template.name, self.context, kind, attributes, start_time=began_ns
            )
            span.end(ended_ns)


PROCESS: ContextVar[ProcessSpan | None] = ContextVar("kafkaesk_otel", default=None)


def current_process_span() -> Span:
    """Return the span of the message or batch being handled here.

    `opentelemetry.trace.get_current_span()` returns the innermost span, which may be a different
    one.
    """
    process = PROCESS.get()
    return INVALID_SPAN if process is None else process.span


class ProcessSpans:
    """Creates Process spans, which are current while inner layers and the handler run."""

    def __init__(self, telemetry: Telemetry, on_process: OnProcess | None = None) -> None:
        self._telemetry = telemetry
        self._templates = telemetry.templates
        self._settings = telemetry.settings
        self._parent = telemetry.settings.process_parent
        self._on_process = on_process

    async def around_one(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:
        """Handle one message in a span."""
        span = self._telemetry.begin("process", self._begin_one, message, subscription)
        if span is None:
            return await call_next(message)
        with span:
            return await call_next(message)

    async def around_batch(
        self, messages: Messages, call_next: ConsumeBatchCall, subscription: Subscription
    ) -> Any:
        """Handle one batch in a span."""
        span = self._telemetry.begin("process", self._begin_batch, messages, subscription)
        if span is None:
            return await call_next(messages)
        with span:
            return await call_next(messages)

    def _begin_one(
        self, message: IncomingMessage, subscription: Subscription
    ) -> ProcessSpan | None:
        current = get_current()
        if is_suppressed(current):
            return None
        template = self._templates.process(subscription, message.topic, message.partition)
        if template is None:
            return None
        extracted, creation = self._extract(message, current)
        links = [] if creation is None else [Link(creation)]
        parent = self._parent_of(current, extracted, creation, links)
        process = ProcessSpan(self._telemetry, template, SpanKind.CONSUMER, parent, links)
        process.creation, process.messages = creation, (message,)
        self._describe(process, message, of_incoming)
        if message.attempt == 1:
            self._count(process, 1)
        return process

    def _extract(
        self, message: IncomingMessage, current: Context
    ) -> tuple[Context, SpanContext | None]:
        """Return the context of the message's headers, and the creation context in it."""
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
        """Choose the parent; a valid context that is not chosen becomes a link."""
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

    def _begin_batch(self, messages: Messages, subscription: Subscription) -> ProcessSpan | None:
        current = get_current()
        first = messages[0]
        if is_suppressed(current):
            return None
        template = self._templates.process(subscription, first.topic, first.partition)
        if template is None:
            return None
        links = [link for link in (self._link_to(message) for message in messages) if link]
        parent = current
        if self._parent == "root":
            parent = set_span_in_context(INVALID_SPAN, current)
        process = ProcessSpan(self._telemetry, template, SpanKind.CONSUMER, parent, links)
        process.creation, process.messages = None, messages
        self._describe(process, first, lambda *_: {BATCH_COUNT: len(messages)})
        self._count(process, sum(message.attempt == 1 for message in messages))
        return process

    def _link_to(self, message: IncomingMessage) -> Link | None:
        """Return a link with the attributes in which the messages of a batch differ."""
        _, creation = self._extract(message, Context())
        if creation is None:
            return None
        attributes: dict[str, str | int] = {OFFSET: message.offset}
        key = key_text(message.key) if self._settings.capture_key else None
        if key is not None:
            attributes[MESSAGE_KEY] = key
        return Link(creation, attributes)

    def _describe(
        self, process: ProcessSpan, message: IncomingMessage, attributes: Callable[..., Any]
    ) -> None:
        if not process.is_recording:
            return
        process.span.set_attributes(attributes(message, self._settings))
        if self._on_process is not None:
            try:
                self._on_process(process.span, message)
            except Exception as error:
                self._telemetry.failures.note("on_process", error)

    def _count(self, process: ProcessSpan, count: int) -> None:
        metrics = self._telemetry.metrics
        if metrics is not None and count:
            metrics.delivered(count, process.template.counted, process.context)

"""The span around one publish, which ends with the broker's acknowledgement."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, Span, SpanKind, get_current_span

from kafkaesk_core import OutgoingMessage

from .attributes import of_outgoing
from .process import PROCESS
from .sdk import is_suppressed
from .semconv import OFFSET, PARTITION_ID
from .span import OperationSpan

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from kafkaesk_core import Delivery, PublishCall

    from .span import Telemetry

__all__ = ["OnSend", "SendSpans", "explicit_fields"]

OnSend = Callable[[Span, OutgoingMessage], None]

EXPLICIT = "kafkaesk-otel"
NONE: frozenset[str] = frozenset()


class SendSpan(OperationSpan):
    """A Send span; it ends when the delivery is done, which may be long after the publish."""

    __slots__ = ()

    operation = "send"

    def left(self, error: BaseException | None) -> None:
        """End the span of a refused message."""
        if error is not None:
            self._finish(None, error)

    def follow(self, delivery: Delivery) -> None:
        """End the span with the broker's answer."""
        try:
            # In a context of its own: it may run much later, when the caller's has ended.
            delivery.add_done_callback(self._answered, context=contextvars.Context())
        except Exception as error:  # an inner layer returned something else than a Delivery
            self._telemetry.failures.note("following a delivery", error)
            self._end_with(None, None)

    def _answered(self, delivery: Delivery) -> None:
        _, error = delivery.peek() or (None, None)
        self._end_with(delivery, error)

    def _end_with(self, delivery: Delivery | None, error: BaseException | None) -> None:
        try:
            self._finish(delivery, error)
        except Exception as failure:
            self._telemetry.failures.note("ending a send span", failure)

    def _finish(self, delivery: Delivery | None, error: BaseException | None) -> None:
        """End the span and measure it; a delivery means that the message was really sent."""
        kind = None if error is None else self.fail(error)
        template = self.template
        if delivery is not None:
            partition = delivery.partition
            template = self._telemetry.templates.send(delivery.topic, partition) or template
            if self.is_recording:
                self.span.set_attribute(PARTITION_ID, str(partition))
                if (offset := delivery.offset) is not None:
                    self.span.set_attribute(OFFSET, offset)
        seconds = self.end()
        metrics = self._telemetry.metrics
        if metrics is not None:
            metrics.operated(seconds, template.labels, kind, self.context)
            if delivery is not None:
                metrics.sent(template.counted, kind, self.context)


class SendSpans:
    """Creates Send spans: PRODUCER, or CLIENT if the caller has set a creation context."""

    def __init__(self, telemetry: Telemetry, on_send: OnSend | None = None) -> None:
        self._telemetry = telemetry
        self._templates = telemetry.templates
        self._settings = telemetry.settings
        self._on_send = on_send

    async def around(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Publish in a span."""
        span = self._telemetry.begin("send", self._begin, message)
        if span is None:
            return await call_next(message)
        with span:
            delivery = await call_next(message)
        if span.is_recording or self._telemetry.metrics is not None:
            span.follow(delivery)
        return delivery

    def _begin(self, message: OutgoingMessage) -> SendSpan | None:
        current = get_current()
        if is_suppressed(current):
            return None
        template = self._templates.send(message.topic, message.partition)
        if template is None:
            return None
        custom, keep = self._given(message)
        if custom is not None:
            send = SendSpan(self._telemetry, template, SpanKind.CLIENT, current, (Link(custom),))
        else:
            send = SendSpan(self._telemetry, template, SpanKind.PRODUCER, current)
            if self._settings.propagate_producer:
                self._telemetry.propagation.inject(message.headers, send.context, keep)
        if send.is_recording:
            self._describe(send, message)
        return send

    def _given(self, message: OutgoingMessage) -> tuple[SpanContext | None, frozenset[str]]:
        """Return the caller's creation context, and the names of the headers that the caller set.

        A context that was copied with all headers of the handled record does not count, and is
        replaced.
        """
        propagation = self._telemetry.propagation
        explicit = explicit_fields(message, propagation.fields)
        if not explicit:
            return None, NONE
        given = [header for header in message.headers if header[0] in explicit]
        found = get_current_span(propagation.extract(given, Context())).get_span_context()
        if not found.is_valid:
            return None, explicit
        process = PROCESS.get()
        inherited = None if process is None else process.creation
        if inherited is None or _ids(found) != _ids(inherited):
            return found, explicit
        message.headers = [header for header in message.headers if header[0] not in explicit]
        message.meta[EXPLICIT] = NONE
        return None, NONE

    def _describe(self, send: SendSpan, message: OutgoingMessage) -> None:
        send.span.set_attributes(of_outgoing(message, self._settings))
        if self._on_send is not None:
            try:
                self._on_send(send.span, message)
            except Exception as error:
                self._telemetry.failures.note("on_send", error)


def explicit_fields(message: OutgoingMessage, fields: Collection[str]) -> frozenset[str]:
    """Return which of the propagator's headers the caller has set.

    They are noted at the message's first pass. An outer layer may publish the message again, and
    then it also has the injected headers.
    """
    explicit: frozenset[str] | None = message.meta.get(EXPLICIT)
    if explicit is None:
        headers = message.headers
        explicit = frozenset(h[0] for h in headers if h[0] in fields) if headers else NONE
        message.meta[EXPLICIT] = explicit
    return explicit


def _ids(context: SpanContext) -> tuple[int, int]:
    return context.trace_id, context.span_id

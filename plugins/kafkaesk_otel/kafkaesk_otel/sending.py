"""The span around one publish, which ends with the broker's acknowledgement."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Collection
from functools import partial

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, get_current_span

from kafkaesk_core import Delivery, OutgoingMessage, PublishCall

from .captured import of_outgoing
from .conventions import OFFSET, PARTITION_ID
from .operation import Operation, Telemetry
from .processing import PROCESS
from .suppression import is_suppressed

__all__ = ["OnSend", "Sending", "explicit_fields"]

OnSend = Callable[[Span, OutgoingMessage], None]

EXPLICIT = "kafkaesk-otel"
NONE: frozenset[str] = frozenset()


class Sending:
    """Makes Send spans: PRODUCER, or CLIENT where the caller gave a creation context itself."""

    def __init__(self, telemetry: Telemetry, on_send: OnSend | None = None) -> None:
        self._telemetry = telemetry
        self._views = telemetry.views
        self._settings = telemetry.settings
        self._on_send = on_send

    async def around(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Publish in a span of its own."""
        try:
            send = self._begin(message)
        except Exception as error:
            self._telemetry.failures.note("beginning a send span", error)
            send = None
        if send is None:
            return await call_next(message)
        token = attach(send.context)
        try:
            delivery = await call_next(message)
        except BaseException as error:
            self._end(send, None, error)
            raise
        finally:
            detach(token)
        if send.is_recording or self._telemetry.instruments is not None:
            self._follow(send, delivery)
        return delivery

    def _begin(self, message: OutgoingMessage) -> Operation | None:
        current = get_current()
        if is_suppressed(current):
            return None
        view = self._views.send(message.topic, message.partition)
        if view is None:
            return None
        custom, keep = self._given(message)
        tracer = self._telemetry.tracer
        if custom is not None:
            send = Operation(tracer, view, SpanKind.CLIENT, current, (Link(custom),))
        else:
            send = Operation(tracer, view, SpanKind.PRODUCER, current)
            if self._settings.propagate_producer:
                self._telemetry.propagation.inject(message.headers, send.context, keep)
        if send.is_recording:
            self._describe(send, message)
        return send

    def _given(self, message: OutgoingMessage) -> tuple[SpanContext | None, frozenset[str]]:
        """Return the creation context that the caller gave, and the headers that are his.

        The one that he copied with all headers of the record he handles is not: it is replaced.
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

    def _describe(self, send: Operation, message: OutgoingMessage) -> None:
        send.span.set_attributes(of_outgoing(message, self._settings))
        if self._on_send is not None:
            try:
                self._on_send(send.span, message)
            except Exception as error:
                self._telemetry.failures.note("on_send", error)

    def _follow(self, send: Operation, delivery: Delivery) -> None:
        try:
            # In a context of its own: it may run much later, when the caller's has ended.
            delivery.add_done_callback(partial(self._done, send), context=contextvars.Context())
        except Exception as error:  # a layer further in gave something else than a Delivery
            self._telemetry.failures.note("following a delivery", error)
            self._end(send, None, None)

    def _done(self, send: Operation, delivery: Delivery) -> None:
        _, error = delivery.peek() or (None, None)
        self._end(send, delivery, error)

    def _end(self, send: Operation, delivery: Delivery | None, error: BaseException | None) -> None:
        """End the span, and measure; a delivery says that the message was really sent."""
        try:
            kind = None if error is None else send.fail(error)
            view = send.view
            if delivery is not None:
                partition = delivery.partition
                view = self._views.send(delivery.topic, partition) or view
                if send.is_recording:
                    send.span.set_attribute(PARTITION_ID, str(partition))
                    if (offset := delivery.offset) is not None:
                        send.span.set_attribute(OFFSET, offset)
            seconds = send.end()
            instruments = self._telemetry.instruments
            if instruments is not None:
                instruments.operated(seconds, view.labels, kind, send.context)
                if delivery is not None:
                    instruments.sent(view.counted, kind, send.context)
        except Exception as failure:
            self._telemetry.failures.note("ending a send span", failure)


def explicit_fields(message: OutgoingMessage, fields: Collection[str]) -> frozenset[str]:
    """Return which of the propagator's headers the caller has set.

    Noted when the message first passes: a layer further out may publish it again, and then those
    that were injected are there too.
    """
    explicit: frozenset[str] | None = message.meta.get(EXPLICIT)
    if explicit is None:
        headers = message.headers
        explicit = frozenset(h[0] for h in headers if h[0] in fields) if headers else NONE
        message.meta[EXPLICIT] = explicit
    return explicit


def _ids(context: SpanContext) -> tuple[int, int]:
    return context.trace_id, context.span_id

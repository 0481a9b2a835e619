"""What a log line is said in: the message being handled, the span, or our own doing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple

from kafkaesk_core import DecodeError, IncomingMessage, Subscription, hookimpl

__all__ = ["HANDLED", "SILENCED", "Handled", "HandledLayers", "add_handled", "span_adder"]

# Any below: fields of a line, and what the layers around a handler return.
Fields = dict[str, Any]


class Handled(NamedTuple):
    """The message that a handler was called for; of a batch the first and the last one."""

    first: IncomingMessage
    last: IncomingMessage
    group: str


HANDLED: ContextVar[Handled | None] = ContextVar("kafkaesk_logging_handled", default=None)
SILENCED: ContextVar[bool] = ContextVar("kafkaesk_logging_silenced", default=False)
"""True where lines are shipped: what is logged there is not shipped in turn."""


class HandledLayers:
    """The layers that note which message is being handled."""

    stage = "observe"

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: Callable[..., Any], subscription: Subscription
    ) -> Any:
        """Note the message while it is handled."""
        token = HANDLED.set(Handled(message, message, subscription.group))
        try:
            return await call_next(message)
        finally:
            HANDLED.reset(token)

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: Callable[..., Any],
        subscription: Subscription,
    ) -> Any:
        """Note the batch while it is handled."""
        token = HANDLED.set(Handled(messages[0], messages[-1], subscription.group))
        try:
            return await call_next(messages)
        finally:
            HANDLED.reset(token)


def add_handled(fields: Fields) -> None:
    """Add topic, partition, offset, group and schema of the message being handled, if any."""
    handled = HANDLED.get()
    if handled is None:
        return
    first, last, group = handled
    fields["topic"] = first.topic
    fields["partition"] = first.partition
    fields["offset"] = first.offset
    if last is not first:
        fields["last_offset"] = last.offset
    fields["group"] = group
    with suppress(DecodeError):  # the line is perhaps about that
        fields["schema"] = first.schema


def span_adder() -> Callable[[Fields, logging.LogRecord], None]:
    """Return what adds the ids of the span that a record was made in.

    They are those that opentelemetry's instrumentation of logging put into the record, or else
    those of the current span, where opentelemetry is installed.
    """
    try:
        trace: Any = import_module("opentelemetry.trace")
    except ImportError:
        return _add_noted
    current_span = trace.get_current_span

    def add(fields: Fields, record: logging.LogRecord) -> None:
        if "otelTraceID" in record.__dict__:
            _add_noted(fields, record)
            return
        span = current_span().get_span_context()
        if span.is_valid:
            _add(fields, f"{span.trace_id:032x}", f"{span.span_id:016x}", span.trace_flags)

    return add


def _add_noted(fields: Fields, record: logging.LogRecord) -> None:
    noted = record.__dict__
    trace_id = noted.get("otelTraceID")
    if trace_id and trace_id != "0":
        _add(fields, trace_id, noted.get("otelSpanID"), noted.get("otelTraceSampled"))


def _add(fields: Fields, trace_id: str, span_id: str | None, flags: int | None) -> None:
    fields["trace_id"] = trace_id
    fields["span_id"] = span_id
    fields["trace_flags"] = f"{int(flags or 0):02x}"

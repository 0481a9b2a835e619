"""What a log line is said in: the message being handled, the span, or our own doing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from kafkaesk_core import DecodeError
from kafkaesk_core.plugin import handled_messages

__all__ = ["SILENCED", "add_handled", "span_adder"]

# Any below: fields of a line, and what the layers around a handler return.
Fields = dict[str, Any]


SILENCED: ContextVar[bool] = ContextVar("kafkaesk_logging_silenced", default=False)
"""True where lines are shipped: what is logged there is not shipped in turn."""


def add_handled(fields: Fields) -> None:
    """Add topic, partition, offset, group and schema of the message being handled, if any."""
    handled = handled_messages()
    if handled is None:
        return
    first, last = handled.messages[0], handled.messages[-1]
    fields["topic"] = first.topic
    fields["partition"] = first.partition
    fields["offset"] = first.offset
    if last is not first:
        fields["last_offset"] = last.offset
    fields["group"] = handled.group
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

"""From a log record to the fields of its line."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from .context import add_handled, span_adder
from .identity import identity
from .options import LineOptions
from .values import Redaction, shown

__all__ = ["FieldMaker", "legacy", "text_of", "timestamp_of"]

# Any below: fields are of any type.
Fields = dict[str, Any]
_PLAIN_RECORD = logging.LogRecord("", 0, "", 0, "", (), None).__dict__
_PLAIN_COUNT = len(_PLAIN_RECORD)
_NOT_EXTRA = frozenset(
    (
        *_PLAIN_RECORD,
        *("message", "asctime", "taskName", "pydantic_data"),
        *("otelTraceID", "otelSpanID", "otelTraceSampled", "otelServiceName"),
    )
)
_NESTED = "extra"


class FieldMaker:
    """Makes fields of records; never writes to a record, which others get after us.

    The names of the format win: another field of such a name goes into the object `extra`.
    """

    def __init__(self, options: LineOptions) -> None:
        self._identity = identity(options.service)
        self._providers = options.context_providers
        self._include_record = options.include_record
        self._add_span = span_adder()
        self._redaction = Redaction(options.redact)
        self._second = (0, "")

    def of(self, record: logging.LogRecord, text: str) -> Fields:
        """Return the fields of a record whose message is `text`."""
        own = record.__dict__
        fields: Fields = {
            "timestamp": self._timestamp(record.created),
            "logger": record.name,
            "severity": record.levelname,
            "level": record.levelno,
            "message": text,
            "exception": None,
            "trace": None,
            "stack": record.stack_info,
            **self._identity,
            "pathname": record.pathname,
            "lineno": record.lineno,
            "function": record.funcName,
            "process": record.process,
            "thread": record.threadName,
        }
        if task := own.get("taskName"):
            fields["task"] = task
        if record.exc_info or record.exc_text:
            _add_exception(fields, record)
        self._add_span(fields, record)
        if self._include_record:
            add_handled(fields)
        self._add_extras(fields, own)
        return fields

    def _add_extras(self, fields: Fields, own: Mapping[str, Any]) -> None:
        models = own.get("pydantic_data")
        if len(own) - (models is not None) > _PLAIN_COUNT:
            self._add(fields, {name: own[name] for name in own if name not in _NOT_EXTRA})
        if type(own["msg"]) is dict:  # an event of structlog, on its way to a formatter
            self._add(fields, {k: v for k, v in own["msg"].items() if k != "event"})
        for model in models or ():
            self._add(fields, _of_model(model))
        for provider in self._providers:
            self._add(fields, _provided(provider))

    def _add(self, fields: Fields, extras: Mapping[str, Any]) -> None:
        if self._redaction.is_harmless(extras) and fields.keys().isdisjoint(extras):
            fields.update(extras)
            return
        for key, value in extras.items():
            name = str(key)
            if name.startswith("_"):
                continue
            value = self._redaction.apply(name, value)
            if name in fields or name == _NESTED:
                fields.setdefault(_NESTED, {})[name] = value
            else:
                fields[name] = value

    def _timestamp(self, created: float) -> str:
        second = int(created)
        known, prefix = self._second
        if known != second:
            prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, prefix)
        return f"{prefix}.{int((created - second) * 1_000_000):06d}Z"


def text_of(record: logging.LogRecord) -> str:
    """Return the message of a record; raises what its arguments raise."""
    message = record.msg
    if type(message) is dict and "event" in message:
        return str(message["event"])
    return record.getMessage()


def timestamp_of(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339 has them, in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _add_exception(fields: Fields, record: logging.LogRecord) -> None:
    kind, error, trace = record.exc_info if isinstance(record.exc_info, tuple) else (None,) * 3
    if kind is None:
        fields["trace"] = record.exc_text  # of a record that came by way of a queue
        return
    module = kind.__module__
    name = kind.__qualname__
    fields["exception"] = name if module in ("builtins", "__main__") else f"{module}.{name}"
    fields["exception_message"] = shown(error, str)
    fields["trace"] = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")


def _of_model(model: BaseModel) -> Mapping[str, Any]:
    serializer = type(model).__pydantic_serializer__
    try:
        content = serializer.to_python(
            model, mode="json", exclude_none=True, warnings=False, fallback=shown
        )
    except Exception as error:  # its own serializers run
        name = type(model).__name__
        return {name: shown(model), "serialization_error": f"{name}: {shown(error)}"}
    return content if type(content) is dict else {"root": content}


def _provided(provider: Any) -> Mapping[str, Any]:
    try:
        provided: Mapping[str, Any] = provider()
    except Exception as error:  # the service's code
        return {"context_error": shown(error)}
    return provided


def legacy(fields: Fields, models: Iterable[BaseModel]) -> Fields:
    """Return the fields that kafkaesk 0.8 had, and the models' own.

    There `trace` was the stack that the call asked for, and `stack` the exception's traceback.
    """
    exception = fields["exception"]
    kept = {
        "timestamp": fields["timestamp"].removesuffix("Z"),
        **{name: fields[name] for name in ("logger", "severity", "level", "message")},
        "exception": exception and exception.rpartition(".")[2],
        "trace": fields["stack"],
        "stack": fields["trace"],
        **{name: fields[name] for name in ("hostname", "service", "namespace", "cluster")},
    }
    for model in models:
        for name, value in _of_model(model).items():
            kept.setdefault(name, value)
    return kept

"""The fields of a log line: of the record, of the service, and of the context."""

from __future__ import annotations

import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel

from kafkaesk_core import DecodeError
from kafkaesk_core.plugin import handled_messages

from .settings import LineOptions

__all__ = ["FieldMaker", "legacy", "shown", "text_of", "timestamp_of"]

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
    """Makes the fields of records; never changes a record, because other handlers also get it.

    The names of the format take precedence; another field with such a name goes into the object
    `extra`.
    """

    def __init__(self, options: LineOptions) -> None:
        self._identity = _identity(options.service)
        self._providers = options.context_providers
        self._include_record = options.include_record
        self._add_span = _span_adder()
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
            _add_handled(fields)
        self._add_extras(fields, own)
        return fields

    def _add_extras(self, fields: Fields, own: Mapping[str, Any]) -> None:
        models = own.get("pydantic_data")
        if len(own) - (models is not None) > _PLAIN_COUNT:
            self._add(fields, {name: own[name] for name in own if name not in _NOT_EXTRA})
        if type(own["msg"]) is dict:  # an event of structlog, before its formatter
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
    """Return the message of a record; raise any error of its arguments."""
    message = record.msg
    if type(message) is dict and "event" in message:
        return str(message["event"])
    return record.getMessage()


def timestamp_of(seconds: float) -> str:
    """Return seconds since 1970 in the format of RFC 3339, in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _add_exception(fields: Fields, record: logging.LogRecord) -> None:
    kind, error, trace = record.exc_info if isinstance(record.exc_info, tuple) else (None,) * 3
    if kind is None:
        fields["trace"] = record.exc_text  # of a record that came through a QueueHandler
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
    except Exception as error:  # of the model's own serializers
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
    """Return the fields of kafkaesk 0.8, and the models' fields.

    In 0.8 `trace` is the stack of the call, and `stack` the exception's traceback.
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


# --- values

_LONGEST_SHOWN = 1000
_STARS = "**********"
_KNOWN_NAMES = 10_000
_DEEPEST = 50
_CONTAINERS = frozenset({dict, list})


def shown(value: object, show: Callable[[Any], str] = repr) -> str:
    """Return a value as text, cut if it is long; if its code raises, return the error instead."""
    try:
        text = show(value)
    except Exception as error:  # the value's code
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


class Redaction:
    """Replaces the values of fields with certain names, also in nested objects, with stars."""

    def __init__(self, names: Iterable[str]) -> None:
        self._hidden = frozenset(name.lower() for name in names)
        self._harmless: set[str] = set()

    def is_harmless(self, fields: Mapping[str, Any]) -> bool:
        """Whether none of these fields is hidden; False if that is unknown."""
        if not self._harmless.issuperset(fields):
            return False
        for value in fields.values():
            kind = type(value)
            if kind is dict or (kind is list and not _CONTAINERS.isdisjoint(map(type, value))):
                return False
        return True

    def apply(self, name: str, value: Any) -> Any:
        """Return the value, or stars if the field is hidden."""
        return _STARS if self._is_hidden(name) else self._nested(value, ())

    def _is_hidden(self, name: str) -> bool:
        if name.lower() in self._hidden:
            return True
        if len(self._harmless) < _KNOWN_NAMES and name[:1] != "_" and name != "extra":
            self._harmless.add(name)
        return False

    def _nested(self, value: Any, around: tuple[int, ...]) -> Any:
        if not isinstance(value, (Mapping, list)):
            return value
        if id(value) in around or len(around) >= _DEEPEST:
            return shown(value)
        around = (*around, id(value))
        if isinstance(value, list):
            return [self._nested(inner, around) for inner in value]
        return {
            key: _STARS if self._is_hidden(str(key)) else self._nested(inner, around)
            for key, inner in value.items()
        }


# --- the service, the host, and where it runs

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _identity(service: str | None) -> dict[str, str | None]:
    """Return service, hostname, namespace and cluster; they are read once, not for every line.

    The service's name is `service`, or comes from OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES.
    """
    return {
        "service": service or _service() or "unknown_service",
        "hostname": socket.gethostname(),
        "namespace": _namespace(),
        "cluster": os.environ.get("CLUSTER"),
    }


def _service() -> str | None:
    # https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    if name := os.environ.get("OTEL_SERVICE_NAME"):
        return name
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and value.strip():
            return unquote(value.strip())
    return None


def _namespace() -> str | None:
    try:
        return _NAMESPACE.read_text().strip() or None
    except (OSError, ValueError):
        return None


# --- the message being handled, and the span


def _add_handled(fields: Fields) -> None:
    """Add the topic, partition, offset, group and schema of the message being handled, if any.

    Add its attempt after the first one, and the place of its dead letter.
    """
    handled = handled_messages()
    if handled is None:
        return
    first, last = handled.messages[0], handled.messages[-1]
    fields["topic"] = first.topic
    fields["partition"] = first.partition
    fields["offset"] = first.offset
    if last is not first:
        fields["last_offset"] = last.offset
    if first.attempt > 1:
        fields["attempt"] = first.attempt
    if (dead_letter := first.meta.get("dead_letter")) is not None:
        fields["dead_letter"] = dead_letter
    fields["group"] = handled.group
    with suppress(DecodeError):  # the line may be about that
        fields["schema"] = first.schema


def _span_adder() -> Callable[[Fields, logging.LogRecord], None]:
    """Return a function that adds the ids of the span in which a record was created.

    The ids come from OpenTelemetry's instrumentation of logging, which puts them into the record,
    or else from the current span, if OpenTelemetry is installed.
    """
    try:
        trace: Any = import_module("opentelemetry.trace")
    except ImportError:
        return _add_recorded
    current_span = trace.get_current_span

    def add(fields: Fields, record: logging.LogRecord) -> None:
        if "otelTraceID" in record.__dict__:
            _add_recorded(fields, record)
            return
        span = current_span().get_span_context()
        if span.is_valid:
            _add(fields, f"{span.trace_id:032x}", f"{span.span_id:016x}", span.trace_flags)

    return add


def _add_recorded(fields: Fields, record: logging.LogRecord) -> None:
    noted = record.__dict__
    trace_id = noted.get("otelTraceID")
    if trace_id and trace_id != "0":
        _add(fields, trace_id, noted.get("otelSpanID"), noted.get("otelTraceSampled"))


def _add(fields: Fields, trace_id: str, span_id: str | None, flags: int | None) -> None:
    fields["trace_id"] = trace_id
    fields["span_id"] = span_id
    fields["trace_flags"] = f"{int(flags or 0):02x}"

"""The envelope of a log line: converts a record to a message of the schema PydanticLogModel."""

from __future__ import annotations

import logging
import time
from copy import copy
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json, to_json

from .fields import FieldMaker, legacy, shown, text_of, timestamp_of
from .settings import LineOptions

__all__ = ["SCHEMA", "LineEncoder", "PydanticLogModel", "enveloped", "shortened_line"]

# Any below: fields are of any type.
Fields = dict[str, Any]
SCHEMA = "PydanticLogModel:1"
_PREFIX = b'{"schema":"PydanticLogModel:1","data":'
_TEXTS = ("message", "trace", "stack", "exception_message")
_LEAST = ("timestamp", "logger", "severity", "level", "message")


class PydanticLogModel(BaseModel):
    """A log line as a subscriber reads it; its fields are attributes."""

    model_config = ConfigDict(extra="allow")


class LineEncoder:
    """Encodes records at once, so that later changes of their objects have no effect."""

    def __init__(self, options: LineOptions) -> None:
        self._fields = FieldMaker(options)
        self._limit = options.max_record_bytes
        self._is_legacy = options.legacy_fields

    def encode(self, record: logging.LogRecord, formatter: logging.Formatter | None) -> bytes:
        """Return the envelope of a record.

        A formatter with a method `to_dict` makes all fields; any other formatter makes the message.

        Raises:
            Exception: the record's arguments or the formatter raised it.
        """
        text = text_of(record) if formatter is None else ""
        try:
            fields = self._fields_of(record, formatter, text)
            line = enveloped(fields)
        except Exception as error:
            if formatter is not None:
                raise
            fields = _reduced(record, text, error)
            line = enveloped(fields)
        return line if len(line) <= self._limit else _shortened(fields, self._limit)

    def _fields_of(
        self, record: logging.LogRecord, formatter: logging.Formatter | None, text: str
    ) -> Fields:
        if formatter is not None:
            to_dict = getattr(formatter, "to_dict", None)
            if to_dict is not None:
                return dict(to_dict(record))
            text = _formatted(record, formatter)
        fields = self._fields.of(record, text)
        if self._is_legacy:
            return legacy(fields, getattr(record, "pydantic_data", ()))
        return fields


def enveloped(fields: Fields) -> bytes:
    """Return the message on the wire; values that JSON does not have become text."""
    try:
        content = _json(fields)
    except Exception:  # bytes, lone surrogates, reference cycles
        content = _json({_text(name): _encodable(value) for name, value in fields.items()})
    return b"".join((_PREFIX, content, b"}"))


def _json(value: Any) -> bytes:
    return to_json(value, fallback=shown, inf_nan_mode="strings")


def _shortened(fields: Fields, limit: int) -> bytes:
    """Return the line with cut texts; if it is still too long, only with its basic fields.

    Raises:
        ValueError: even the basic fields are too long.
    """
    room = limit // 16  # a character takes up to six bytes
    cut = {**fields, "truncated": True}
    for name in _TEXTS:
        text = cut.get(name)
        if isinstance(text, str) and len(text) > room:
            cut[name] = f"{text[:room]}..."
    line = enveloped(cut)
    if len(line) > limit:
        line = enveloped({name: cut.get(name) for name in (*_LEAST, "truncated")})
    if len(line) > limit:
        raise ValueError(f"a log line of {len(line)} bytes cannot be cut down to {limit} bytes")
    return line


def shortened_line(line: bytes, limit: int) -> bytes | None:
    """Return a line cut to `limit` bytes; None if it is already short enough."""
    return _shortened(from_json(line)["data"], limit) if len(line) > limit else None


def _formatted(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    """Format a copy, because a formatter changes the record and adds the exception as text."""
    copied = copy(record)
    copied.exc_info = copied.exc_text = copied.stack_info = None
    return formatter.format(copied)


def _reduced(record: logging.LogRecord, text: str, error: Exception) -> Fields:
    """Return the basic fields of a record whose other fields cannot be encoded."""
    return {
        "timestamp": timestamp_of(time.time()),
        "logger": _text(record.name),
        "severity": _text(record.levelname),
        "level": record.levelno if isinstance(record.levelno, int) else 0,
        "message": text,
        "serialization_error": shown(error),
    }


def _encodable(value: Any) -> Any:
    """Return the value if JSON can hold it, else its text."""
    try:
        _json(value)
    except Exception:  # of the value's own code, too
        return _text(value)
    return value


def _text(value: object) -> str:
    """Return text that UTF-8 can encode."""
    text = value if isinstance(value, str) else shown(value)
    return text.encode("utf-8", "backslashreplace").decode()

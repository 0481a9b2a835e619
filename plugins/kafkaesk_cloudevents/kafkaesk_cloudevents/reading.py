"""Reads the attributes and the data of a record's event, in binary or structured mode."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from kafkaesk_core import DecodeError

from .event import CONTENT_TYPE, PREFIX, REQUIRED, SPECVERSION, CloudEvent, parse_time

if TYPE_CHECKING:
    from kafkaesk_core import IncomingMessage

__all__ = ["Attributes", "event_of", "is_event", "read_event"]

Attributes = Mapping[str, str]

_STRUCTURED = "application/cloudevents"
_JSON_EVENT = "application/cloudevents+json"
_KNOWN = frozenset((*REQUIRED, "subject", "time", "dataschema", "datacontenttype"))


def is_event(message: IncomingMessage) -> bool:
    """Whether a record has any part of a CloudEvent."""
    return any(
        name.startswith(PREFIX) or _is_structured(name, value) for name, value in message.headers
    )


def _is_structured(name: str, value: bytes | None) -> bool:
    is_type = value is not None and name.lower() == CONTENT_TYPE
    return is_type and (value or b"").lower().startswith(_STRUCTURED.encode())


def read_event(message: IncomingMessage) -> tuple[Attributes, bytes]:
    """Return the attributes of a record's event, and its data as JSON.

    Raises:
        DecodeError: the record is not a CloudEvent of version 1.0 with JSON data.
    """
    attributes = _attributes_of_headers(message)
    media_type = attributes.get("datacontenttype", "").partition(";")[0].strip().lower()
    data = message.value or b""
    if media_type.startswith(_STRUCTURED):
        attributes, data = _structured(message, media_type, data)
        media_type = attributes.get("datacontenttype", "").partition(";")[0].strip().lower()
    _check(message, attributes)
    if media_type and not (media_type.endswith(("/json", "+json"))):
        raise _error(
            message,
            f"has data of the content type {media_type!r}, and only JSON is read; annotate the "
            "handler's first parameter with bytes to take other data",
        )
    return attributes, data


def event_of(message: IncomingMessage) -> CloudEvent:
    """Return the attributes of a record's event.

    Raises:
        DecodeError: the record is not a CloudEvent, or its time is invalid.
    """
    attributes, _ = read_event(message)
    known = {name: attributes[name] for name in attributes.keys() & _KNOWN - {"time"}}
    return CloudEvent(
        **known,
        time=_time_of(message, attributes.get("time")),
        extensions={name: text for name, text in attributes.items() if name not in _KNOWN},
    )


def _time_of(message: IncomingMessage, text: str | None) -> datetime | None:
    time = None if text is None else parse_time(text)
    if text is not None and time is None:
        raise _error(message, f"has the time {text!r}, which is no timestamp of RFC 3339")
    return time


def _check(message: IncomingMessage, attributes: Attributes) -> None:
    for name in REQUIRED:
        if not attributes.get(name):
            state = "is empty" if name in attributes else "is missing"
            raise _error(
                message,
                f"is not a CloudEvent: its attribute {name} {state}; its producer has to write it, "
                "or take the stream out of the setting streams",
            )
    version = attributes["specversion"]
    if version != SPECVERSION:
        raise _error(
            message,
            f"is a CloudEvent of specversion {version!r}, and {SPECVERSION!r} is read; let its "
            "producer write that, or annotate the handler's first parameter with bytes",
        )


def _attributes_of_headers(message: IncomingMessage) -> dict[str, str]:
    found: dict[str, str] = {}
    for header, value in message.headers:
        if header.startswith(PREFIX):
            name = header[len(PREFIX) :]
        elif header.lower() == CONTENT_TYPE:
            name = "datacontenttype"
        else:
            continue
        text = _text(message, header, value)
        if found.setdefault(name, text) != text:
            raise _error(message, f"has two headers {header}: {found[name]!r} and {text!r}")
    return found


def _text(message: IncomingMessage, header: str, value: bytes | None) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError:
        raise _error(
            message,
            f"has the header {header} with bytes that are no UTF-8; binary attributes are written "
            "in Base64",
        ) from None


# Any below: JSON.


def _structured(
    message: IncomingMessage, media_type: str, value: bytes
) -> tuple[dict[str, str], bytes]:
    """Return the event in the value, as JSON."""
    if media_type != _JSON_EVENT:
        raise _error(
            message,
            f"has the content type {media_type!r}; events are read in binary mode, or one by one "
            f"as {_JSON_EVENT}",
        )
    try:
        event: Any = from_json(value)
    except ValueError as error:
        raise _error(message, f"is not valid JSON: {error}") from None
    if not isinstance(event, dict):
        raise _error(message, f"has a {type(event).__name__} where a JSON event is an object")
    attributes = {
        name: text if isinstance(text, str) else to_json(text).decode()
        for name, text in event.items()
        if name not in ("data", "data_base64") and text is not None
    }
    return attributes, _data_of(message, event)


def _data_of(message: IncomingMessage, event: dict[str, Any]) -> bytes:
    binary = event.get("data_base64")
    if binary is None:
        return to_json(event.get("data"))
    try:
        return b64decode(binary, validate=True)
    except (ValueError, TypeError):
        raise _error(message, "has a data_base64 that is no Base64") from None


def _error(message: IncomingMessage, said: str) -> DecodeError:
    return DecodeError(f"{message.topic}[{message.partition}]@{message.offset} {said}")

"""The attributes of an event: handlers read them, and publishers set them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafkaesk_core import Header

__all__ = [
    "CONTENT_TYPE",
    "PREFIX",
    "REQUIRED",
    "SPECVERSION",
    "CloudEvent",
    "event_headers",
    "parse_time",
    "problem_of_attribute",
    "timestamp_of",
]

PREFIX = "ce_"
CONTENT_TYPE = "content-type"
SPECVERSION = "1.0"
REQUIRED = ("specversion", "id", "source", "type")
_OWN = frozenset(("specversion", "type", "datacontenttype", "data"))
_NAME = re.compile(r"[a-z0-9]{1,20}")
_URI = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_INT32 = 2**31
Value = str | int | bool | bytes | datetime


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """The attributes of an event; a handler's parameter of this type gets its record's attributes.

    `extensions` are the attributes that the specification does not define, as text.
    """

    id: str
    source: str
    type: str
    specversion: str = SPECVERSION
    subject: str | None = None
    time: datetime | None = None
    dataschema: str | None = None
    datacontenttype: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)


def event_headers(
    *,
    id: str | None = None,  # noqa: A002 - the attribute's name
    source: str | None = None,
    subject: str | None = None,
    time: datetime | None = None,
    dataschema: str | None = None,
    **extensions: Value | None,
) -> list[Header]:
    """Return headers that set attributes of an event, for `publish(..., headers=...)`.

    Extensions may have the types of CloudEvents: bytes are written in Base64 and times in UTC;
    integers have 32 bits. None leaves an attribute out.

    Raises:
        TypeError: a value has another type.
        ValueError: CloudEvents does not allow a name or a value.
    """
    texts = {"id": id, "source": source, "subject": subject, "dataschema": dataschema}
    for name, text in texts.items():
        if not (text is None or isinstance(text, str)):
            raise TypeError(f"attribute {name} is of type {type(text).__name__}, not str")
    values: dict[str, Value | None] = {**texts, "time": time, **extensions}
    return [
        (PREFIX + name, _checked(name, _text_of(name, value)).encode())
        for name, value in values.items()
        if value is not None
    ]


def _checked(name: str, text: str) -> str:
    if name in _OWN:
        raise ValueError(f"attribute {name} is written from the message's schema; leave it out")
    if problem := problem_of_attribute(name, text):
        raise ValueError(problem)
    return text


def _text_of(name: str, value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -_INT32 <= value < _INT32:
            raise ValueError(f"attribute {name} is {value}, more than 32 bits; write it as a text")
        return str(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"attribute {name} is {value}, without a time zone; add tzinfo=UTC")
        return timestamp_of(value)
    if not isinstance(value, str):
        raise TypeError(
            f"attribute {name} is of type {type(value).__name__}; CloudEvents has str, int, bool, "
            "bytes and datetime"
        )
    return value


def timestamp_of(time: datetime) -> str:
    """Return an aware time in the format of RFC 3339, in UTC."""
    text = time.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime | None:
    """Parse a time of RFC 3339; return None if the text is not one."""
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return None if time.tzinfo is None else time


def problem_of_attribute(name: str, text: str) -> str | None:
    """Return why this cannot be an attribute; None if it can."""
    if not _NAME.fullmatch(name):
        return f"attribute {name!r} has a name that CloudEvents refuses; use 1 to 20 of a-z and 0-9"
    if not text:
        return f"attribute {name} is empty; give it a value, or leave it out"
    if found := _CONTROL.search(text):
        return (
            f"attribute {name} has the control character {found[0]!r}, which no attribute may have"
        )
    if name in ("source", "dataschema") and not _URI.fullmatch(text):
        return f"attribute {name} is {text!r}, which is no URI or path; write a space as %20"
    if name == "time" and parse_time(text) is None:
        return f"attribute time is {text!r}, which is no timestamp of RFC 3339 with a time zone"
    return None

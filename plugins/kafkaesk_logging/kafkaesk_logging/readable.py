"""A log line of a stream as text for people: time, level, logger, message, fields, traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

__all__ = ["level_of", "readable"]

# Any below: what somebody wrote to a stream may be of any type.
Fields = Mapping[str, Any]
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_COLOURS = ((50, "bright_red"), (40, "red"), (30, "yellow"), (20, "green"), (0, "blue"))
_ELSEWHERE = frozenset(
    (
        *("timestamp", "severity", "level", "logger", "message", "trace", "stack"),
        *("exception", "exception_message", "topic", "partition", "offset"),
    )
)
"""What is shown, but not as a field."""
_NOT_SHOWN = frozenset(
    (
        *("hostname", "service", "namespace", "cluster", "pathname", "lineno", "function"),
        *("process", "thread", "task", "group", "schema", "span_id", "trace_flags"),
    )
)
"""What `--json` is for."""
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})\d*Z?")
_BARE = re.compile(r"[^\s\"=]+")
# Control characters, those that turn the direction of writing, and halves of surrogates: a line
# can neither steer the terminal nor look like another one.
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def level_of(fields: Fields) -> int | None:
    """Return the level's number; None if the line has none."""
    level = fields.get("level")
    if type(level) is int:
        return level
    return _LEVELS.get(str(fields.get("severity")).upper())


def readable(fields: Fields, timestamp_ms: int, *, is_coloured: bool = False) -> str:
    """Return a line as text, of more than one line if its message is or if it has a traceback.

    `timestamp_ms` is the record's, in milliseconds since 1970, for a line that has none.
    """
    level = level_of(fields)
    severity = _flat(fields.get("severity") or level or "-")
    cells = (
        _styled(_time(fields, timestamp_ms), is_coloured, dim=True),
        _styled(severity.ljust(8), is_coloured, fg=_colour(level), bold=(level or 0) >= 50),
        _styled(f"{_flat(fields.get('logger') or '-')}:", is_coloured, fg="cyan"),
        _indented(_safe(fields.get("message", ""))),
        *(f"{_styled(f'{name}=', is_coloured, dim=True)}{value}" for name, value in _more(fields)),
    )
    below = (fields[name] for name in ("trace", "stack") if fields.get(name))
    return "\n    ".join((" ".join(cells), *(_indented(_safe(text)) for text in below)))


def _more(fields: Fields) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if name not in _ELSEWHERE and name not in _NOT_SHOWN and value is not None:
            yield _flat(name), _value(value)
    if fields.get("topic") is not None:
        place = "{topic}[{partition}]@{offset}".format_map(_Known(fields))
        yield "record", _value(place)
    if fields.get("exception") and not (fields.get("trace") or fields.get("stack")):
        yield "exception", _value(fields["exception"])
        if fields.get("exception_message"):
            yield "exception_message", _value(fields["exception_message"])


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _time(fields: Fields, timestamp_ms: int) -> str:
    """Return milliseconds in UTC; what is no timestamp of ours as it is."""
    told = fields.get("timestamp")
    if told is None:
        told = datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    found = _TIMESTAMP.fullmatch(str(told))
    return f"{found[1]}Z" if found else _flat(told)


def _colour(level: int | None) -> str | None:
    return next((colour for least, colour in _COLOURS if (level or 0) >= least), None)


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and not _BARE.fullmatch(value):
        text = json.dumps(value, ensure_ascii=False)
    return _safe(text)


def _flat(value: object) -> str:
    return _safe(value).replace("\n", "\\n")


def _safe(value: object) -> str:
    return _UNSHOWN.sub(lambda found: _escaped(found[0]), str(value))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _indented(text: str) -> str:
    return text.rstrip("\n").replace("\n", "\n    ")


# Any: click's own arguments.
def _styled(text: str, is_coloured: bool, **style: Any) -> str:
    return click.style(text, **style) if is_coloured else text

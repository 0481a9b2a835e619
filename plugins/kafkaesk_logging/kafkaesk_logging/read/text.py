"""Prints log lines as text for people: selects and formats them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import click

from kafkaesk_logging.envelope import SCHEMA

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

__all__ = ["LinePrinter", "format_line", "level_of"]

# Any below: records of a stream may hold values of any type.
Fields = Mapping[str, Any]
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_COLOURS = ((50, "bright_red"), (40, "red"), (30, "yellow"), (20, "green"), (0, "blue"))
_ELSEWHERE = frozenset(
    (
        *("timestamp", "severity", "level", "logger", "message", "trace", "stack"),
        *("exception", "exception_message", "topic", "partition", "offset"),
    )
)
"""Fields with their own place in the text."""
_NOT_SHOWN = frozenset(
    (
        *("hostname", "service", "namespace", "cluster", "pathname", "lineno", "function"),
        *("process", "thread", "task", "group", "schema", "span_id", "trace_flags"),
    )
)
"""Fields that only `--json` shows."""
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})\d*Z?")
_BARE = re.compile(r"[^\s\"=]+")
# Control characters, those that change the direction of writing, and lone surrogates: a line can
# neither control the terminal nor look like another one.
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def level_of(fields: Fields) -> int | None:
    """Return the number of the line's level; None if the line has no level."""
    level = fields.get("level")
    if type(level) is int:
        return level
    return _LEVELS.get(str(fields.get("severity")).upper())


def format_line(fields: Fields, timestamp_ms: int, *, is_coloured: bool = False) -> str:
    """Return a log line as text; a traceback follows on separate lines.

    `timestamp_ms`, the record's timestamp in milliseconds since 1970, is used for a line without
    one.
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
    """Return the time in UTC with milliseconds; keep a timestamp in another format."""
    timestamp = fields.get("timestamp")
    if timestamp is None:
        timestamp = datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime(
            "%Y-%m-%dT%H:%M:%S.%fZ"
        )
    found = _TIMESTAMP.fullmatch(str(timestamp))
    return f"{found[1]}Z" if found else _flat(timestamp)


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


# --- which lines are printed

_NAME = SCHEMA.partition(":")[0]


class LinePrinter:
    """Prints the log lines among records to a text stream.

    Lines below `level` are left out, as are lines whose text does not match `pattern`. A line
    without a level passes any `level`. `report` is called with the reason why a record is not a log
    line.
    """

    def __init__(
        self,
        output: TextIO,
        report: Callable[[str], None],
        *,
        level: int = 0,
        pattern: re.Pattern[str] | None = None,
        as_json: bool = False,
        is_coloured: bool = False,
    ) -> None:
        self._output = output
        self._report = report
        self._level = level
        self._pattern = pattern
        self._as_json = as_json
        self._is_coloured = is_coloured
        self._reported: set[str] = set()
        self._others = 0

    def show(self, record: ConsumerRecord) -> None:
        """Print a record if it is a selected line."""
        fields, reason = _fields(record.value)
        if reason:
            self._note(record, reason)
            return
        level = level_of(fields)
        if level is not None and level < self._level:
            return
        if self._pattern and not self._pattern.search(format_line(fields, record.timestamp)):
            return
        if self._as_json:
            text = json.dumps(fields, separators=(",", ":"))
        else:
            text = format_line(fields, record.timestamp, is_coloured=self._is_coloured)
        self._output.write(f"{text}\n")

    def flush(self) -> None:
        """Flush the text stream."""
        self._output.flush()

    def finish(self) -> None:
        """Report the number of records that were not log lines, unless each was reported."""
        self.flush()
        if self._others > len(self._reported):
            self._report(f"{self._others} records were not log lines")

    def _note(self, record: ConsumerRecord, reason: str) -> None:
        """Report the first record for each reason, and count the others."""
        self._others += 1
        if reason not in self._reported:
            self._reported.add(reason)
            self._report(
                f"{record.topic}[{record.partition}]@{record.offset} is not a log line: {reason}"
            )


def _fields(value: bytes | None) -> tuple[dict[str, Any], str]:  # Any: fields are of any type
    """Return the fields of a line, or the reason why the record is not a line."""
    if value is None:
        return {}, "it has no value"
    try:
        message = json.loads(value)
    except (ValueError, RecursionError):
        return {}, "it is not valid JSON"
    if not isinstance(message, dict) or "schema" not in message:
        return {}, "it has no schema"
    schema, data = message["schema"], message.get("data")
    if not isinstance(schema, str) or schema.partition(":")[0] != _NAME:
        return {}, f"its schema is {ascii(schema)[:100]}"
    if not isinstance(data, dict):
        return {}, "its data is not an object"
    return data, ""

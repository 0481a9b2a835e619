"""The output of a record: text for people, JSON for programs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.cells import cell_len

from kafkaesk_core import ConsumerRecord

from .contents import Content

__all__ = ["as_json", "as_text", "safe", "shown_age", "shown_bytes", "shown_time", "shown_value"]

# Any below: JSON of any type, and the options of styles.

# Control characters, those that change the direction of writing, and lone surrogates: a record can
# neither control the terminal nor look like another one.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_VALUE = 2000
_LONGEST_BYTES = 200
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))

_Style = Mapping[str, Any]
_Part = Sequence[tuple[str, _Style]]
"""Texts that belong together, each in its style."""
_PLAIN: _Style = {}
_DIM: _Style = {"dim": True}
_GAP, _INDENT = ("  ", _PLAIN), ("    ", _PLAIN)
_LEAST_COLUMNS = 20


def as_text(
    record: ConsumerRecord,
    content: Content,
    now: float,
    *,
    is_coloured: bool,
    columns: int | None = None,
) -> str:
    """Return a record as two lines: where it is and what it carries, and below its value.

    `now` is in seconds since 1970, for its age. The first line is folded to so many `columns`.
    """

    def styled(texts: _Part) -> str:
        if not is_coloured:
            return "".join(text for text, _ in texts)
        return "".join(click.style(text, **style) if style else text for text, style in texts)

    head = _fold(_parts(record, content, now), columns)
    value: _Style = _PLAIN if content.kind == "json" else {"fg": "magenta"}
    lines = [*map(styled, head), styled([_GAP, (shown_value(content, record.value), value)])]
    if content.problem:
        text = f"cannot be decoded: {safe(content.problem)}"
        lines.append(styled([_GAP, (text, {"fg": "red"})]))
    return "\n".join(lines)


def _parts(record: ConsumerRecord, content: Content, now: float) -> Iterator[_Part]:
    """What is shown above the value."""
    place = f"{record.topic}[{record.partition}]@{record.offset}"
    yield [(place, {"fg": "cyan", "bold": True})]
    yield [(f"{shown_time(record.timestamp)} ({shown_age(record.timestamp, now)})", _DIM)]
    if content.schema:
        yield [(safe(content.schema), {"fg": "green"})]
    if record.key is not None:
        yield [("key", _DIM), (" ", _PLAIN), (shown_bytes(record.key), {"fg": "yellow"})]
    for name, value in record.headers:
        shown = "null" if value is None else shown_bytes(value)
        yield [(f"{safe(name)}=", _DIM), (shown, _PLAIN)]


def _fold(parts: Iterable[_Part], columns: int | None) -> Iterator[_Part]:
    """Yield lines of parts; a part that does not fit begins a line, and may go on in the next."""
    width = float("inf") if columns is None else max(columns, _LEAST_COLUMNS)
    line: list[tuple[str, _Style]] = []
    used = 0
    for part in parts:
        size = sum(cell_len(text) for text, _ in part)
        if line and used + len(_GAP[0]) + size > width:
            yield line
            line, used = [_INDENT], len(_INDENT[0])
        elif line:
            line.append(_GAP)
            used += len(_GAP[0])
        for text, style in part:
            left = text
            while used + cell_len(left) > width:
                fits = _beginning(left, int(width) - used)
                yield [*line, (fits, style)]
                line, used, left = [_INDENT], len(_INDENT[0]), left[len(fits) :]
            line.append((left, style))
            used += cell_len(left)
    yield line


def _beginning(text: str, columns: int) -> str:
    """As much of a text as fits; a character may take two columns."""
    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > columns:  # rich's chop_cells begins at the end in older versions
            return text[:index]
    return text


def shown_value(content: Content, value: bytes | None, longest: int = _LONGEST_VALUE) -> str:
    """Return a value on one line; a long value is cut and marked."""
    if value is None:
        return "(tombstone: no value)"
    if content.kind == "binary":
        return shown_bytes(value)
    if not value:
        return "(empty)"
    is_json = content.kind == "json"
    text = json.dumps(content.data, ensure_ascii=False) if is_json else content.data
    if len(text) > longest:
        return f"{safe(text[:longest])}... ({len(value):,} bytes; --json shows all)"
    return safe(text)


def shown_bytes(value: bytes, longest: int = _LONGEST_BYTES) -> str:
    """Return bytes as text if they are text, else in hexadecimal digits."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        cut = value[:longest]
        rest = f"... ({len(value):,} bytes)" if len(value) > longest else f" ({len(value)} bytes)"
        return f"0x{cut.hex()}{rest}"
    shown = safe(text[:longest])
    return f"{shown}... ({len(value):,} bytes)" if len(text) > longest else shown


def shown_time(timestamp_ms: int) -> str:
    """Return the time in UTC, with milliseconds; "-" if there is none."""
    if timestamp_ms < 0:
        return "-"
    try:
        at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a producer may write any number
        return f"{timestamp_ms} ms"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_age(timestamp_ms: int, now: float) -> str:
    """Return how long ago a time was, in the largest suitable unit: "12 s ago"."""
    if timestamp_ms < 0:
        return "no time"
    seconds = now - timestamp_ms / 1000
    size, unit = next((each for each in _UNITS if abs(seconds) >= each[0]), (1, "s"))
    number = f"{abs(seconds) / size:,.0f} {unit}"
    return f"{number} ago" if seconds > -1 else f"in {number}"


def safe(text: str) -> str:
    """Return a foreign text with all characters escaped that could control the terminal."""
    return _UNSHOWN.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return named.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def as_json(record: ConsumerRecord, content: Content) -> dict[str, Any]:
    """Return a record as JSON; bytes that are not text become {"base64": ...}.

    It has `data` if the value is JSON, else `value`; null is a tombstone.
    """
    described: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": _plain(record.key),
        "headers": [{"name": name, "value": _plain(value)} for name, value in record.headers],
        "schema": content.schema or None,
    }
    if content.kind == "json":
        return {**described, "data": content.data}
    return {**described, "value": _plain(record.value)}


def _plain(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}

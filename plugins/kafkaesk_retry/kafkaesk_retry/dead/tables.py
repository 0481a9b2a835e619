"""The output of dead letters: as text for people, and as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .stored import StoredLetter

__all__ = ["Kinds", "as_json", "print_letter"]


@dataclass(slots=True)
class Kind:
    """Letters of one group and stream that failed in the same way."""

    group: str
    stream: str
    fingerprint: str
    message: str
    example: str
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def add(self, letter: StoredLetter) -> None:
        """Count a letter."""
        failed = letter.failed_at_ms
        self.first_ms = failed if not self.count else min(self.first_ms, failed)
        if failed >= self.last_ms:
            self.last_ms, self.message, self.example = failed, letter.message, str(letter.place)
        self.count += 1


class Kinds:
    """Letters by kind of failure; only the counts are kept."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self.total = 0

    def add(self, letter: StoredLetter) -> None:
        """Count a letter."""
        stream = letter.origin.topic.removeprefix(self._prefix)
        key = (letter.group, stream, letter.fingerprint)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind(*key, letter.message, str(letter.place))
        kind.add(letter)
        self.total += 1

    def _sorted(self) -> list[Kind]:
        return sorted(self._kinds.values(), key=lambda kind: (-kind.count, kind.fingerprint))

    def as_json(self) -> list[dict[str, Any]]:
        """Return the kinds as JSON, the most frequent first."""
        return [
            {**asdict(kind), "first": _time(kind.first_ms), "last": _time(kind.last_ms)}
            for kind in self._sorted()
        ]

    def table(self) -> Table:
        """Return the kinds as a table for 80 columns, the most frequent first."""
        letters = "letter" if self.total == 1 else "letters"
        table = Table(title=f"{self.total} dead {letters}", title_justify="left", box=box.SIMPLE)
        table.add_column("count", justify="right")
        table.add_column("failure, message, group, last letter", overflow="fold")
        table.add_column("first, last (UTC)", no_wrap=True)
        for kind in self._sorted():
            message, place = _line(kind.message), f"{kind.group}, {kind.stream}"
            table.add_row(
                str(kind.count),
                "\n".join(map(escape, (kind.fingerprint, message, place, kind.example))),
                f"{_moment(kind.first_ms)}\n{_moment(kind.last_ms)}",
            )
        return table


def as_json(letter: StoredLetter, *, with_values: bool) -> dict[str, Any]:
    """Return one letter as JSON, with bytes as base64."""
    record = letter.record
    described: dict[str, Any] = {
        "id": str(letter.place),
        "origin": str(letter.origin),
        "group": letter.group,
        "handler": letter.handler,
        "exception": letter.exception,
        "message": letter.message,
        "fingerprint": letter.fingerprint,
        "deliveries": letter.deliveries,
        "replays": letter.replays,
        "failed_at": _time(letter.failed_at_ms),
        "timestamp_ms": record.timestamp,
        "truncated": letter.is_truncated,
        "stacktrace": letter.stacktrace,
    }
    if with_values:
        described["key"] = _base64(record.key)
        described["value"] = _base64(record.value)
        described["headers"] = [[name, _base64(value)] for name, value in letter.headers()]
    return described


def print_letter(letter: StoredLetter, *, is_settled: bool, with_values: bool) -> None:
    """Print one letter for a person."""
    console = Console(highlight=False)
    facts: Mapping[str, object] = {
        "letter": letter.place,
        "came from": letter.origin,
        "group": letter.group,
        "handler": letter.handler,
        "failed at": _time(letter.failed_at_ms),
        "deliveries": letter.deliveries,
        "replays": letter.replays,
        "settled": "yes" if is_settled else "no",
        "error": f"{letter.exception}: {letter.message}",
    }
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/bold]", escape(str(value)))
    console.print(table)
    console.print(f"\n{escape(letter.stacktrace)}")
    if with_values:
        table = Table(show_header=False, box=None)
        table.add_row("[bold]key[/bold]", escape(_shown(letter.record.key)))
        for name, value in letter.headers():
            table.add_row(f"[bold]{escape(name)}[/bold]", escape(_shown(value)))
        table.add_row("[bold]value[/bold]", escape(_shown(letter.record.value)))
        console.print(table)


def _time(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _line(text: str) -> str:
    return " ".join(text.split())[:120]


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _shown(value: bytes | None) -> str:
    if value is None:
        return "null"
    try:
        return value.decode()
    except UnicodeDecodeError:
        return repr(value)

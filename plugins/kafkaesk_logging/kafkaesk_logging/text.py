"""A line of a stream as text for people."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["LineText", "level_of"]

# Any below: a line's fields are of any type.
_COLOURS = ((40, "\x1b[31m"), (30, "\x1b[33m"), (20, "\x1b[32m"), (0, "\x1b[2m"))
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_SHOWN = frozenset(
    (
        *("timestamp", "logger", "severity", "level", "message", "trace", "stack"),
        *("exception", "exception_message", "service", "hostname", "namespace", "cluster"),
        *("pathname", "lineno", "function", "process", "thread", "task", "trace_flags"),
    )
)


class LineText:
    """Time, level, logger, message, the fields that are not in every line, and the traceback."""

    def __init__(self, has_colours: bool) -> None:
        self._has_colours = has_colours

    def of(self, fields: dict[str, Any]) -> str:
        """Return a line's text, without control characters that a message may have brought."""
        severity = str(fields.get("severity", "-"))
        others = [f"{name}={fields[name]}" for name in fields if name not in _SHOWN]
        text = " ".join(
            (
                self._in(_DIM, str(fields.get("timestamp", "-"))),
                self._in(_colour(fields.get("level")), f"{severity:<8}"),
                _printable(f"{fields.get('logger', '-')}: {fields.get('message', '')}"),
                *([self._in(_DIM, _printable(" ".join(others)))] if others else []),
            )
        )
        parts = (fields.get("trace"), fields.get("stack"))
        return "\n".join([text, *(_printable(str(part)) for part in parts if part)])

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._has_colours else text


def level_of(name: str) -> int | None:
    """Return the number of a level's name, or of a number; None if it is neither."""
    if name.isdigit():
        return int(name)
    return logging.getLevelNamesMapping().get(name.upper())


def _colour(level: object) -> str:
    number = level if isinstance(level, int) else 20
    return next((colour for lowest, colour in _COLOURS if number >= lowest), _DIM)


def _printable(text: str) -> str:
    """Escape what a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)

"""Counts lost lines, reports them on standard error and the stream, and shows important ones."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from typing import Any

from pydantic_core import from_json

from .fields import timestamp_of

__all__ = ["LOGGER", "Fallback", "Losses", "ShippingHandler"]

# Any below: fields of a line are of any type.
LOGGER = "kafkaesk.logging"
"""The logger that lines about losses name on the stream."""


def write_line(text: str) -> None:
    """Write to standard error, if there is one; a log call would return to this package."""
    stream = sys.stderr
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except Exception:  # closed, broken, full, or None: nobody reads it
        return


class Losses:
    """Counts lost records from the first loss until shipping works again, and reports them.

    It writes at most one line every `interval` seconds, and one at the end. `trouble` is the reason
    why nothing can be shipped, if known.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Reset with a new lock; in a forked process, the counts and the lock are the parent's."""
        self._lock = threading.RLock()
        self._lost: Counter[str] = Counter()  # since the first loss
        self._unreported = 0
        self._gap: Counter[str] = Counter()  # not yet reported on the stream
        self._since = self._until = self._gap_since = 0.0
        self._reported_at = float("-inf")
        self.trouble = ""

    def note(self, reason: str, count: int) -> None:
        """Count lost records; report them if `interval` has passed since the last report."""
        now = time.time()
        with self._lock:
            self._since = self._since if self._lost else now
            self._gap_since = self._gap_since if self._gap else now
            self._until = now
            self._lost[reason] += count
            self._gap[reason] += count
            self._unreported += count
            if not self._is_due():
                return
            text = f"log records are lost: {self._describe()}"
        self._write(text + (f"; {self.trouble}" if self.trouble else ""))

    def hindered(self, trouble: str, waiting: int) -> None:
        """Note why nothing can be shipped; report it `interval` after the last report."""
        with self._lock:
            self.trouble = trouble
            if not self._is_due():
                return
        self._write(f"{waiting} log records wait: {trouble}")

    @property
    def is_open(self) -> bool:
        """Whether records were lost and the end of the losses was not reported yet."""
        return bool(self._lost)

    def close(self, *, at_end: bool = False) -> None:
        """Report that shipping works again, if `interval` has passed since the last report.

        With `at_end`, when shipping stops, unreported losses are reported at once.
        """
        with self._lock:
            if not self._lost or not (at_end or self._is_due()):
                return
            lost, unreported = self._describe(), self._unreported
            self._lost.clear()
            self._unreported = 0
        if not at_end:
            self._write(f"log records are shipped again; lost were {lost}")
        elif unreported:
            self._write(f"log records were lost: {lost}")

    def gap(self) -> dict[str, Any] | None:
        """Return the fields of a line about a loss for the stream's readers, once per loss."""
        with self._lock:
            if not self._gap:
                return None
            dropped, self._gap = dict(self._gap), Counter()
            since, until = self._gap_since, self._until
        return {
            "timestamp": timestamp_of(time.time()),
            "logger": LOGGER,
            "severity": "WARNING",
            "level": 30,
            "message": f"dropped {sum(dropped.values())} log records",
            "dropped": dropped,
            "since": timestamp_of(since),
            "until": timestamp_of(until),
        }

    def _is_due(self) -> bool:
        return time.monotonic() - self._reported_at >= self._interval

    def _describe(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in self._lost.items())
        return f"{sum(self._lost.values())} since {timestamp_of(self._since)} ({reasons})"

    def _write(self, text: str) -> None:
        with self._lock:
            self._reported_at = time.monotonic()
            self._unreported = 0
        write_line(f"kafkaesk-logging: {text}")


# --- lost lines that are shown

_PER_SECOND = 100


class ShippingHandler:
    """Marks handlers that ship records; every other handler shows them."""


class Fallback:
    """Shows lost records of `level` and above, unless another handler of their loggers shows them.

    It shows at most 100 records per second, and the number of further ones. With `level` None it
    shows nothing.
    """

    def __init__(self, level: int | None) -> None:
        self._level = level
        self._second = 0
        self._shown = self._hidden = 0

    def show_line(self, line: bytes) -> None:
        """Show the record of a line."""
        fields: dict[str, Any] = from_json(line)["data"]
        logger, level = str(fields.get("logger")), fields.get("level")
        if not self._takes(logger, level if isinstance(level, int) else 0) or not self._has_room():
            return
        when, severity = fields.get("timestamp"), fields.get("severity")
        text = f"{when} {severity} {logger}: {fields.get('message')}"
        trace = fields.get("trace") or fields.get("stack")
        write_line(f"{text}\n{trace}" if trace else text)

    def _takes(self, logger: str, level: int) -> bool:
        return self._level is not None and level >= self._level and not _is_shown(logger, level)

    def _has_room(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            if self._hidden:
                write_line(f"kafkaesk-logging: {self._hidden} more records were not shown")
            self._second, self._shown, self._hidden = second, 0, 0
        if self._shown >= _PER_SECOND:
            self._hidden += 1
            return False
        self._shown += 1
        return True


def _is_shown(name: str, level: int) -> bool:
    """Whether another handler takes records of this logger and level."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in logger.handlers:
            is_other = not isinstance(handler, (ShippingHandler, logging.NullHandler))
            if is_other and level >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False

"""What is said about lost records: to standard error, seldom, and to the stream's readers."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from typing import Any

from .fields import timestamp_of

__all__ = ["Losses", "write_line"]

# Any below: fields of a line.
LOGGER = "kafkaesk_logging"


def write_line(text: str) -> None:
    """Write to standard error, if there is one; logging would come back to us."""
    stream = sys.stderr
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except Exception:  # closed, broken, full, or None: there is nobody to tell
        return


class Losses:
    """Counts what is lost from the first loss until things go well again, and tells it.

    At most one line in `interval` seconds, and one at the end. `trouble` is why nothing can be
    shipped, as far as is known.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self.renew()

    def renew(self) -> None:
        """Begin anew, with a lock of our own: in a forked process all of it is the parent's."""
        self._lock = threading.RLock()
        self._lost: Counter[str] = Counter()  # since it began
        self._untold = 0
        self._gap: Counter[str] = Counter()  # not told to the stream's readers
        self._since = self._until = self._gap_since = 0.0
        self._told_at = float("-inf")
        self.trouble = ""

    def note(self, reason: str, count: int) -> None:
        """Count lost records; tell if that has not been done for so long."""
        now = time.time()
        with self._lock:
            self._since = self._since if self._lost else now
            self._gap_since = self._gap_since if self._gap else now
            self._until = now
            self._lost[reason] += count
            self._gap[reason] += count
            self._untold += count
            if not self._is_due():
                return
            text = f"log records are lost: {self._told()}"
        self._write(text + (f"; {self.trouble}" if self.trouble else ""))

    def hindered(self, trouble: str, waiting: int) -> None:
        """Note why nothing can be shipped; tell if nothing has been told for so long."""
        with self._lock:
            self.trouble = trouble
            if not self._is_due():
                return
        self._write(f"{waiting} log records wait: {trouble}")

    @property
    def is_open(self) -> bool:
        """Whether records were lost and nobody was told that this has ended."""
        return bool(self._lost)

    def close(self, *, at_end: bool = False) -> None:
        """Tell that it is over, once so much time has passed since the last line.

        `at_end` it is the last chance to tell what has not been told.
        """
        with self._lock:
            if not self._lost or not (at_end or self._is_due()):
                return
            lost, untold = self._told(), self._untold
            self._lost.clear()
            self._untold = 0
        if not at_end:
            self._write(f"log records are shipped again; lost were {lost}")
        elif untold:
            self._write(f"log records were lost: {lost}")

    def gap(self) -> dict[str, Any] | None:
        """Return the fields of a record for the stream's readers, once for each loss."""
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
        return time.monotonic() - self._told_at >= self._interval

    def _told(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in self._lost.items())
        return f"{sum(self._lost.values())} since {timestamp_of(self._since)} ({reasons})"

    def _write(self, text: str) -> None:
        with self._lock:
            self._told_at = time.monotonic()
            self._untold = 0
        write_line(f"kafkaesk-logging: {text}")

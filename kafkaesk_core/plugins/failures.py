"""Failures of plugins that stop nothing: counted, and logged more rarely than they happen."""

from __future__ import annotations

import logging
from collections import Counter

__all__ = ["CountedFailures"]


class CountedFailures:
    """Counts failures by kind, and logs the 1st, 10th, 100th ... of each kind.

    A plugin may fail for each message, and a log line for each would hide all others. `counts` has
    the numbers. `consequence` says in the log what a failure means, as in "messages continue
    without it".
    """

    def __init__(
        self, logger: logging.Logger, consequence: str, *, level: int = logging.WARNING
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._logger = logger
        self._consequence = consequence
        self._level = level

    def note(
        self, kind: str, error: BaseException | None = None, *, subject: str | None = None
    ) -> None:
        """Count one failure; `subject` is what the log says in place of "<kind> failed"."""
        self.counts[kind] += 1
        count = self.counts[kind]
        if str(count).rstrip("0") == "1":
            times = "first failure" if count == 1 else f"{count} failures so far"
            said = f"{kind} failed" if subject is None else subject
            self._logger.log(
                self._level, "%s (%s); %s", said, times, self._consequence, exc_info=error
            )

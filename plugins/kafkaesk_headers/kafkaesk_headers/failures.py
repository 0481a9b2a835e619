"""What went wrong in the plugin itself: counted, told once per kind, and nobody else's concern."""

from __future__ import annotations

import logging
from collections import Counter

__all__ = ["Failures"]

logger = logging.getLogger("kafkaesk.headers")


class Failures:
    """Counts by kind; the first of each kind is logged."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def note(self, kind: str, error: Exception | None = None) -> None:
        """Count one failure."""
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            logger.warning(
                "%s failed; further failures are only counted, and messages continue without it",
                kind,
                exc_info=error,
            )

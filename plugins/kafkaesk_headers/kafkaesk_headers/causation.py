"""The plugin's own headers: the hops since the first message, and the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from kafkaesk_core import KafkaeskError

if TYPE_CHECKING:
    from kafkaesk_core import Header

    from .context import Origin

__all__ = ["CAUSATION", "CORRELATION", "HOPS", "CausationHeaders", "HopLimitError"]

HOPS = "kafkaesk-hops"
CORRELATION = "correlation-id"
CAUSATION = "causation-id"
MAX_DIGITS = 9


class HopLimitError(KafkaeskError):
    """A message would exceed `max_hops` hops from the first message, probably in a loop."""

    def __init__(self, topic: str, hops: int, limit: int) -> None:
        super().__init__(
            f"publishing to {topic} would be hop {hops} of max_hops {limit}; perhaps two services "
            "answer each other: break the loop, or raise max_hops"
        )
        self.topic = topic
        self.hops = hops


class CausationHeaders:
    """Counts hops (with `max_hops`) and names the cause (with `correlation`).

    `on_malformed` is called for a hop count that is not a number; such a count is taken as 0.
    """

    def __init__(
        self, *, max_hops: int | None, correlation: bool, on_malformed: Callable[[str], None]
    ) -> None:
        self._max_hops = max_hops
        self._correlation = correlation
        self._on_malformed = on_malformed
        self.is_enabled = correlation or max_hops is not None

    def headers(self, origins: Sequence[Origin], topic: str) -> list[Header]:
        """Return the headers for a message to `topic` that these records caused.

        Raises:
            HopLimitError: the message would exceed `max_hops`.
        """
        added: list[Header] = []
        if self._max_hops is not None:
            hops = 1 + max(self._hops(origin) for origin in origins)
            if hops > self._max_hops:
                raise HopLimitError(topic, hops, self._max_hops)
            added.append((HOPS, str(hops).encode()))
        if self._correlation and len(origins) == 1:
            added += self._causes(origins[0])
        return added

    def _hops(self, origin: Origin) -> int:
        value = _last(origin.headers, HOPS)
        if value is None:
            return 0
        if not (value.isdigit() and len(value) <= MAX_DIGITS):
            self._on_malformed(f"reading {HOPS}")
            return 0
        return int(value)

    @staticmethod
    def _causes(origin: Origin) -> list[Header]:
        """Name each record by its position, which is the same for every attempt."""
        cause = f"{origin.topic}/{origin.partition}/{origin.offset}".encode()
        return [
            (CORRELATION, _last(origin.headers, CORRELATION) or cause),
            (CAUSATION, cause),
        ]


def _last(headers: Iterable[Header], name: str) -> bytes | None:
    found = None
    for other, value in headers:
        if other == name:
            found = value
    return found

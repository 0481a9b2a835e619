"""Headers that the plugin writes itself: hops from the first message, and the cause of this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kafkaesk_core import Header, KafkaeskError

from .surroundings import Origin

__all__ = ["CAUSATION", "CORRELATION", "HOPS", "HopLimitError", "Lineage"]

HOPS = "kafkaesk-hops"
CORRELATION = "correlation-id"
CAUSATION = "causation-id"
MAX_DIGITS = 9


class HopLimitError(KafkaeskError):
    """A message would be further from the first one than `max_hops` allows: a loop, probably."""

    def __init__(self, topic: str, hops: int, limit: int) -> None:
        super().__init__(
            f"publishing to {topic} would be hop {hops} of max_hops {limit}; two services that "
            "answer each other, perhaps: break the loop, or raise max_hops"
        )
        self.topic = topic
        self.hops = hops


class Lineage:
    """Counts hops (`max_hops`) and notes causes (`correlation`), as the settings ask for.

    `malformed` is told of a count of hops that is no number; it counts as none.
    """

    def __init__(
        self, *, max_hops: int | None, correlation: bool, malformed: Callable[[str], None]
    ) -> None:
        self._max_hops = max_hops
        self._correlation = correlation
        self._malformed = malformed
        self.is_asked_for = correlation or max_hops is not None

    def headers(self, origins: Sequence[Origin], topic: str) -> list[Header]:
        """Return the headers of a message to `topic` that these caused.

        Raises:
            HopLimitError: it would be one hop too many.
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
            self._malformed(f"reading {HOPS}")
            return 0
        return int(value)

    @staticmethod
    def _causes(origin: Origin) -> list[Header]:
        """The same for every attempt: a record is named by where it is."""
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

"""A circuit breaker: if too many records become dead letters, a dependency is probably down."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Breaker"]

RECENT = 100


class Breaker:
    """Opens after `limit` dead letters in `window` seconds, or if half of the last 100 died.

    While it is open, it lets one record through every `probe` seconds; a success closes it. With
    `limit` 0 it never opens.
    """

    def __init__(self, limit: int, window: float, probe: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._window = window
        self._probe = probe
        self._clock = clock
        self._died: deque[float] = deque()
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._next_probe = 0.0
        self.opened: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether records wait."""
        return self.opened is not None

    def admits_death(self) -> bool:
        """Count one more dead letter, if the limit allows it; else open."""
        if self.is_open:
            return False
        now = self._clock()
        while self._died and self._died[0] <= now - self._window:
            self._died.popleft()
        half_died = len(self._recent) == RECENT and self._recent.count(False) * 2 >= RECENT
        if self._limit and (len(self._died) >= self._limit or half_died):
            self.opened = now
            self._next_probe = now + self._probe
            return False
        self._died.append(now)
        self._recent.append(False)
        return True

    def wait(self) -> float:
        """Return the seconds that a record must wait; 0 lets it through."""
        if not self.is_open:
            return 0.0
        now = self._clock()
        if now < self._next_probe:
            return self._next_probe - now
        self._next_probe = now + self._probe
        return 0.0

    def pause(self) -> float:
        """Return the seconds until the next record is let through."""
        return max(self._next_probe - self._clock(), 0.0) if self.is_open else 0.0

    def succeed(self) -> bool:
        """Note a handled record; return whether it closed the breaker."""
        self._recent.append(True)
        was_open, self.opened = self.is_open, None
        if was_open:
            self._died.clear()
            self._recent.clear()
        return was_open

"""A breaker: when too many records die, a dependency is down, and they had better wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Breaker"]

RECENT = 100


class Breaker:
    """Opens after `limit` dead letters in `window` seconds, or when half of the last 100 died.

    While it is open, one record in `probe` seconds is let through; a success closes it. `limit` 0
    means that it never opens.
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
        """Return the seconds that a record has to wait; 0 lets it through."""
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
        """Note a record that was handled; return whether that closed the breaker."""
        self._recent.append(True)
        was_open, self.opened = self.is_open, None
        if was_open:
            self._died.clear()
            self._recent.clear()
        return was_open

"""What has to be looked after now and then: late handlers, a late loop, missing topics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kafkaesk_core.topics import Topics

from .intake import Route
from .seat import Seat
from .vitals import Vitals

__all__ = ["Watch"]

TICK = 1.0
REFRESH = 5.0
"""Seconds between looks for a topic that does not exist yet."""


class Watch:
    """Looks after one group, once a second."""

    def __init__(self, seat: Seat, routes: Sequence[Route], topics: Topics, vitals: Vitals) -> None:
        self._seat = seat
        self._routes = routes
        self._topics = topics
        self._vitals = vitals

    async def run(self) -> None:
        """Watch until cancelled."""
        clock = asyncio.get_running_loop().time
        looked = clock()
        while True:
            before = clock()
            await asyncio.sleep(TICK)
            now = clock()
            self._vitals.watch(now - before - TICK)
            if now - looked >= REFRESH:
                looked = now
                self._look_for_missing_topics()

    def _look_for_missing_topics(self) -> None:
        member = self._seat.member
        present = member.topics()
        missing = [topic for topic in self._literal_topics() if topic not in present]
        self._vitals.missing_topics = tuple(missing)
        if missing:
            member.refresh_metadata()

    def _literal_topics(self) -> list[str]:
        return [
            self._topics.topic_of(stream)
            for route in self._routes
            for stream in route.handling.subscription.topics or ()
        ]

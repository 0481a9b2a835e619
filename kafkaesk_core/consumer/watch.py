"""What has to be looked after now and then: late handlers, silent brokers, missing topics."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence

from kafkaesk_core.errors import BrokerError
from kafkaesk_core.topics import Topics

from .intake import Route
from .seat import Seat
from .vitals import SILENCE, Vitals

__all__ = ["Watch"]

TICK = 1.0
REFRESH = 5.0
"""Seconds between looks for a topic that does not exist yet."""

FIRST_LOOK = 2.0
"""Seconds from the start to the first of them: the group has joined by then, mostly."""


class Watch:
    """Looks after one group, once a second.

    A member that hears nothing of a partition for `patience` seconds, though brokers tell of the
    cluster every `metadata_age` seconds, is given up: its client is stuck.
    """

    def __init__(
        self,
        seat: Seat,
        routes: Sequence[Route],
        topics: Topics,
        vitals: Vitals,
        *,
        patience: float,
        metadata_age: float,
    ) -> None:
        self._seat = seat
        self._routes = routes
        self._topics = topics
        self._vitals = vitals
        self._patience = patience
        self._metadata_age = metadata_age
        self._metadata = 0.0
        self._told: deque[float] = deque(maxlen=100)  # when brokers told us of the cluster

    async def run(self) -> None:
        """Watch until cancelled."""
        clock = asyncio.get_running_loop().time
        looked = clock() - REFRESH + FIRST_LOOK
        while True:
            before = clock()
            await asyncio.sleep(TICK)
            now = clock()
            self._vitals.watch(now - before - TICK)
            if not self._seat.member.is_started:
                continue  # it is being replaced
            self._look_for_silence(now)
            if now - looked >= REFRESH:
                looked = now
                self._look_for_missing_topics()

    def _look_for_silence(self, now: float) -> None:
        member = self._seat.member
        if member.last_metadata != self._metadata:
            self._metadata = member.last_metadata
            self._told.append(now)
        silent = self._vitals.freshness.silent(self._patience)
        if silent and self._brokers_answer(now):
            names = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in silent)
            member.break_off(
                BrokerError(
                    f"no answer about {names} for {self._patience:g}s, though brokers answer"
                )
            )

    def _brokers_answer(self, now: float) -> bool:
        """Whether brokers have answered for a while, not only now that an outage has ended."""
        silence_began = now - self._patience
        is_settled = any(silence_began < told < now - SILENCE for told in self._told)
        return is_settled and now - self._told[-1] < self._metadata_age + SILENCE

    def _look_for_missing_topics(self) -> None:
        member = self._seat.member
        if not member.is_joined:
            return
        present = member.topics()
        missing = [topic for topic in self._literal_topics() if topic not in present]
        unmatched = self._unmatched_patterns(present)
        self._vitals.waits_for(missing, unmatched)
        if missing:
            member.refresh_metadata()

    def _literal_topics(self) -> list[str]:
        return [
            self._topics.topic_of(stream)
            for route in self._routes
            for stream in route.handling.subscription.literal_streams
        ]

    def _unmatched_patterns(self, present: Collection[str]) -> list[str]:
        streams = [self._topics.stream_of(topic) for topic in present]
        return [
            self._topics.topic_of(subscription.pattern)
            for subscription in (route.handling.subscription for route in self._routes)
            if subscription.pattern and not subscription.literal_streams
            if not any(stream is not None and subscription.matches(stream) for stream in streams)
        ]

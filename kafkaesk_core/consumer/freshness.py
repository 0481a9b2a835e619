"""How long ago each partition's broker last answered a fetch: nothing else notices its silence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from aiokafka.structs import TopicPartition

__all__ = ["Freshness"]


class Freshness:
    """Notes when partitions were last heard of, on a clock of its own in seconds.

    A broker that is cut off answers nothing, and the client tells nobody: its partitions stand
    still until it is back. One with nothing new to give still answers, twice a second.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stamps: dict[TopicPartition, Hashable] = {}
        self._heard: dict[TopicPartition, float] = {}

    def look(
        self,
        partitions: Collection[TopicPartition],
        wanted: Collection[TopicPartition],
        stamp: Callable[[TopicPartition], Hashable],
    ) -> None:
        """Look at the client's stamps of the last answers; they count as new when they differ.

        A partition of which no more is wanted is not fetched, so it is not waited for.
        """
        now = self._clock()
        self._heard = {tp: at for tp, at in self._heard.items() if tp in partitions}
        for partition in partitions:
            last = stamp(partition)
            is_new = partition not in self._heard or last != self._stamps.get(partition)
            if is_new or partition not in wanted:
                self._heard[partition] = now
                self._stamps[partition] = last

    def silent(self, seconds: float) -> list[TopicPartition]:
        """Partitions not heard of for longer than this."""
        limit = self._clock() - seconds
        return sorted(tp for tp, at in self._heard.items() if at < limit)

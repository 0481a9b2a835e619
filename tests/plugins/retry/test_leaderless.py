"""Dead letters and marks that no broker can show for now are not taken for missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from kafkaesk_core import Application, ClusterTopic, TopicError, TopicPartition
from kafkaesk_retry.dead.ledger import Ledger
from kafkaesk_retry.dead.stored import LogReader
from kafkaesk_retry.open_letters import OpenLetters
from kafkaesk_retry.places import StreamNames

DEAD, STATE = "dlq.g.in", "dlq-state.g"


class Cluster:
    """One dead letter, and a topic of marks; partitions of `leaderless` have no leader."""

    def __init__(self, *leaderless: TopicPartition) -> None:
        self.leaderless = set(leaderless)

    async def topics(self) -> list[ClusterTopic]:
        return [ClusterTopic(topic, 1, 1, is_internal=False) for topic in (DEAD, STATE)]

    async def begins(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        return dict.fromkeys(await self.ends(topics), 0)

    async def ends(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        found = {TopicPartition(topic, 0): int(topic == DEAD) for topic in topics}
        return {one: end for one, end in found.items() if one not in self.leaderless}


@pytest.mark.parametrize("topic", [DEAD, STATE])
async def test_the_command_reads_no_part_of_what_is_there(topic: str) -> None:
    """Without the marks a replay would send what was replayed before."""
    cluster: Any = Cluster(TopicPartition(topic, 0))
    unused: Any = None
    reader = LogReader(cluster, unused)

    with pytest.raises(TopicError, match=f"partition 0 of topic {topic} has no leader"):
        await reader.ends({DEAD: 1, STATE: 1})


@pytest.mark.parametrize(("leaderless", "count"), [((), 1), ((DEAD,), None), ((STATE,), None)])
async def test_what_is_counted_in_part_is_unknown(
    leaderless: tuple[str, ...], count: int | None
) -> None:
    cluster: Any = Cluster(*(TopicPartition(topic, 0) for topic in leaderless))
    app = Application("localhost:1", entry_points=False)
    letters = OpenLetters(app, StreamNames(), lambda: ["g"], 1)

    assert Ledger(StreamNames(), "").topic("g") == STATE
    assert await letters._look(cluster) == count

"""Faults of topics: new topics, new partitions, and members that cannot keep up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from aiokafka.admin import NewPartitions

from .fault import until
from .measure import memory
from .member_faults import StopMember
from .stage import Stage

__all__ = ["AddPartitions", "Flood", "NewTopic"]

HALF = 0.5


@dataclass(frozen=True, slots=True)
class NewTopic:
    """Creates a topic that a pattern matches, and publishes to it, under load.

    Its records must be handled within `limit` seconds after its creation. With `joins`, a member
    joins while the others discover the topic, and one leaves once it is read.
    """

    limit: float
    partitions: int = 3
    joins: bool = False

    async def strike(self, stage: Stage) -> None:
        """Create the topic."""
        for crew in stage.crews:
            topic = f"{crew.topic}-{len(crew.topics)}"
            await stage.create_topic(topic, self.partitions)
            stage.struck("topic made", topic, crew.topic)
            publisher = crew.publish(topic)
            await until(publisher.journal.exists, f"{topic} is published to", within=60)
            if self.joins:
                stage.struck("member joined", crew.join().name, crew.topic)
            await until(partial(crew.handled_of, topic), f"{topic} is read", within=self.limit)
            if self.joins:
                await crew.joined()
                await StopMember().leave(stage, crew)


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """Adds partitions to a topic, under load."""

    count: int = 3

    async def strike(self, stage: Stage) -> None:
        """Add the partitions, and wait until each was read."""
        for crew in stage.crews:
            old = await stage.partitions(crew.topic)
            async with stage.admin() as admin:
                await admin.create_partitions({crew.topic: NewPartitions(old + self.count)})
            stage.struck("partitions added", crew.topic, crew.topic)
            for number in range(old, old + self.count):
                partition = f"{crew.topic}:{number}"
                await until(partial(crew.handled_of, partition), f"{partition} is read", within=60)


@dataclass(frozen=True, slots=True)
class Flood:
    """Publishes more than is handled, for some seconds; memory stays bounded.

    `most` is the allowed growth of a member in the second half, in MiB.
    """

    seconds: float
    most: float

    async def strike(self, stage: Stage) -> None:
        """Let it run, and check the members' memory."""
        members = [member for crew in stage.crews for member in crew.present]
        stage.struck("flooded", len(members))
        await asyncio.sleep(self.seconds * HALF)
        before = {member.name: memory(member.pid) for member in members}
        await asyncio.sleep(self.seconds * (1 - HALF))
        grown = {member.name: memory(member.pid) - before[member.name] for member in members}
        for crew in stage.crews:
            crew.look()
            behind = len(crew.acked) - len(crew.handled)
            assert behind > crew.workload.rate, f"not flooded: only {behind} behind"
        assert max(grown.values()) < self.most, f"members grew, in MiB: {grown}"

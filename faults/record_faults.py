"""Faults of records: handlers that are slow, block, or fail."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial

from .crew import Crew
from .fault import until
from .journal import now
from .member_faults import BLOCKED, OVERAGED, StopMember, until_told
from .stage import Stage

__all__ = [
    "Blocked",
    "EndInMarkers",
    "FailedWhileJoining",
    "Overrun",
    "Poisoned",
    "SlowPartition",
    "Transactions",
]


@dataclass(frozen=True, slots=True)
class Overrun:
    """Handles a record for longer than a handover waits, while another member joins.

    With `ignores`, the handler ignores its cancellation.
    """

    seconds: float
    limit: float
    ignores: bool = False

    async def strike(self, stage: Stage) -> None:
        """Begin the record, let a member join, and check that the group does not wait for it."""
        await asyncio.gather(*(self._strike(stage, crew) for crew in stage.crews))

    async def _strike(self, stage: Stage, crew: Crew) -> None:
        await crew.joined()
        do = f"{'stubborn' if self.ignores else 'sleep'}:{self.seconds}"
        async with crew.sending() as sender:
            number = await sender.send(do, key=sender.own_key)
        await until(lambda: crew.begun(number), f"order {number} begins")
        stage.struck("handler overran", number, crew.topic)
        member = crew.join()
        took = await until(member.has_joined, "a new member joins", within=self.limit)
        assert took < self.limit
        await until(lambda: len(crew.begun(number)) > 1, "it is begun again", within=self.limit)


@dataclass(frozen=True, slots=True)
class FailedWhileJoining:
    """Lets a handler fail while its partition is being handed over and waits for it."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Begin the record, let a member join, and check that the record is begun again."""
        await asyncio.gather(*(self._strike(stage, crew) for crew in stage.crews))

    async def _strike(self, stage: Stage, crew: Crew) -> None:
        await crew.joined()
        async with crew.sending() as sender:
            number = await sender.send(f"fail:{self.seconds}", key=sender.own_key)
        await until(partial(crew.begun, number), f"order {number} begins")
        stage.struck("handler failed in a handover", number, crew.topic)
        crew.join()
        await until(lambda: len(crew.begun(number)) > 1, "it is begun again", within=60)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Lets a handler block the event loop for longer than the session."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Block the loop, and expect the engine to report it."""
        for crew in stage.crews:
            await crew.joined()
            async with crew.sending() as sender:
                number = await sender.send(f"block:{self.seconds}", key=sender.own_key)
            await until(partial(crew.begun, number), "it begins")
            stage.struck("event loop blocked", number, crew.topic)
            end = now() + int(self.seconds * 1e6)
            crew.begun(number)[0].silenced.append((now(), end))
            await until_told(crew, BLOCKED, within=self.seconds + 10)


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Publishes unreadable records to partition 0, among good records; they are skipped."""

    values: tuple[bytes, ...] = (b"not JSON", b"{}", b"")

    async def strike(self, stage: Stage) -> None:
        """Publish the records, and check that their partition continues."""
        for crew in stage.crews:
            partition = f"{crew.topic}:0"
            async with crew.sending() as sender:
                for value in self.values:
                    await sender.poison(value, partition=0)
                    crew.poisoned += 1
            stage.struck("poisoned", len(self.values))
            before = crew.handled_of(partition)
            await until(
                partial(_goes_on, crew, partition, before + 50), "the partition goes on", within=60
            )


def _goes_on(crew: Crew, partition: str, count: int) -> bool:
    return crew.handled_of(partition) >= count


@dataclass(frozen=True, slots=True)
class SlowPartition:
    """Lets one record block its partition; the other partitions keep their pace and commits."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Block one partition, and check the others."""
        for crew in stage.crews:
            await self._strike(stage, crew)

    async def _strike(self, stage: Stage, crew: Crew) -> None:
        await crew.joined()
        async with crew.sending() as sender:
            number = await sender.send(f"sleep:{self.seconds}", key=sender.own_key, partition=0)
        await until(lambda: crew.begun(number), "it begins")
        stage.struck("partition held up", number)
        began, before = time.monotonic(), crew.handled_by_partition()
        if crew.workload.library == "kafkaesk":
            await until_told(crew, OVERAGED, within=self.seconds)
        await asyncio.sleep(max(0, self.seconds - 1 - (time.monotonic() - began)))
        seconds, after = time.monotonic() - began, crew.handled_by_partition()
        held = f"{crew.topic}:0"
        others = {p: (after[p] - before[p]) / seconds for p in after if p != held}
        expected = crew.workload.rate / crew.workload.partitions
        assert after[held] == before[held], "the partition was not held up"
        assert min(others.values()) > 0.5 * expected, f"others slowed down: {others}, {expected}"


@dataclass(frozen=True, slots=True)
class Transactions:
    """Commits and aborts transactions between the published records: gaps in the log."""

    records: int = 5

    async def strike(self, stage: Stage) -> None:
        """Write the transactions to every partition."""
        for crew in stage.crews:
            for is_aborted in (False, True, True, False, True):
                await crew.transact(self.records, is_aborted=is_aborted)
            stage.struck("transactions aborted", 3, crew.topic)


@dataclass(frozen=True, slots=True)
class EndInMarkers:
    """Ends each partition with an aborted record and the marker of its transaction.

    Members are stopped and started at this point; a restart finds no remaining records.
    """

    async def strike(self, stage: Stage) -> None:
        """Stop publishing, abort transactions, and restart a member."""
        for crew in stage.crews:
            await crew.fall_silent()
            await crew.transact(1, is_aborted=True)
            stage.struck("log ended in markers", crew.topic, crew.topic)
        await StopMember().strike(stage)

"""Faults of records: handlers that take long, block, or fail."""

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
    """A record is handled for longer than a handover waits, while another member joins.

    With `ignores` its handler does not heed its cancellation.
    """

    seconds: float
    limit: float
    ignores: bool = False

    async def strike(self, stage: Stage) -> None:
        """Begin it, let a member join, see that the group does not wait for it."""
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
    """A handler fails while its partition is being handed over and waits for it."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Begin it, let a member join, see that it is begun again."""
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
    """A handler keeps the event loop for itself, longer than the session lasts."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Block, and expect the engine to tell."""
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
    """Records that no handler can read arrive in partition 0, among good ones; they are skipped."""

    values: tuple[bytes, ...] = (b"not JSON", b"{}", b"")

    async def strike(self, stage: Stage) -> None:
        """Publish them, and see that their partition goes on."""
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
    """One record holds its partition up; the others keep their pace and their commits."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Hold one partition, and look at the others."""
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
    """Transactions are committed and aborted, in between what is published: gaps in the log."""

    records: int = 5

    async def strike(self, stage: Stage) -> None:
        """Write them to every partition."""
        for crew in stage.crews:
            for is_aborted in (False, True, True, False, True):
                await crew.transact(self.records, is_aborted=is_aborted)
            stage.struck("transactions aborted", 3, crew.topic)


@dataclass(frozen=True, slots=True)
class EndInMarkers:
    """The last thing in each partition is a transaction's marker, behind an aborted record.

    Members are stopped and started there: a restart finds nothing left.
    """

    async def strike(self, stage: Stage) -> None:
        """Stop publishing, abort, and let a member go and come."""
        for crew in stage.crews:
            await crew.fall_silent()
            await crew.transact(1, is_aborted=True)
            stage.struck("log ended in markers", crew.topic, crew.topic)
        await StopMember().strike(stage)

"""Faults of members: killed, stopped, joined, frozen."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass

from .crew import Crew
from .fault import until
from .journal import now
from .process import Process
from .stage import Stage

__all__ = [
    "FreezeMember",
    "FreezeOwner",
    "Join",
    "KillAt",
    "KillMember",
    "KillOwner",
    "LeaveAndJoin",
    "StopMember",
    "StopWhileJoining",
]


@dataclass(frozen=True, slots=True)
class KillMember:
    """SIGKILL to a member of each workload; another one is started in its place.

    At any time, also in the middle of a rebalance; but one that has joined is left to take over.
    """

    async def strike(self, stage: Stage) -> None:
        """Kill."""
        for crew in stage.crews:
            await crew.settled(2)
            await asyncio.sleep(stage.random.uniform(0, 0.5))
            victim = crew.pick()
            await victim.end(signal.SIGKILL)
            stage.struck("member killed", victim.name, crew.topic)
            crew.join()


@dataclass(frozen=True, slots=True)
class KillAt:
    """SIGKILL to a member of each workload at a point between a failure and its commit.

    See `points.py`; another member is started in its place.
    """

    point: str

    async def strike(self, stage: Stage) -> None:
        """Wait until one stands there, and kill it."""
        await asyncio.gather(*(self._strike(stage, crew) for crew in stage.crews))

    async def _strike(self, stage: Stage, crew: Crew) -> None:
        await crew.settled(2)
        crew.ask_for(self.point)
        await until(
            lambda: crew.reached(self.point),
            f"a member of {crew.workload.name} comes to the point {self.point!r}",
            within=60,
        )
        victim = crew.reached(self.point)
        assert victim is not None
        await victim.end(signal.SIGKILL)
        stage.struck("member killed", f"{victim.name} {self.point}", crew.topic)
        crew.join()


@dataclass(frozen=True, slots=True)
class StopMember:
    """SIGTERM to a member of each workload; another one is started when it has ended."""

    limit: float = 30.0

    async def strike(self, stage: Stage) -> None:
        """Stop in order: exit code 0."""
        await asyncio.gather(*(self._stop(stage, crew) for crew in stage.crews))

    async def _stop(self, stage: Stage, crew: Crew) -> None:
        await self.leave(stage, crew)
        crew.join()

    async def leave(self, stage: Stage, crew: Crew) -> None:
        """Stop a member of one workload, and start no other."""
        victim = crew.pick()
        strike = stage.struck("member stopped", victim.name, crew.topic)
        await ended(victim, self.limit)
        strike.until = victim.ended_at


@dataclass(frozen=True, slots=True)
class StopWhileJoining:
    """SIGTERM to a member whose JoinGroup is parked: another one still handles a record.

    The group goes on `limit` seconds after that record at the latest; had the member not left, it
    would wait for the end of its session.
    """

    handling: float = 12.0
    limit: float = 5.0

    async def strike(self, stage: Stage) -> None:
        """Begin a long record, let a member join, stop it, see the others go on."""
        await asyncio.gather(*(self._strike(stage, crew) for crew in stage.crews))

    async def _strike(self, stage: Stage, crew: Crew) -> None:
        await crew.joined()
        async with crew.sending() as sender:
            number = await sender.send(f"sleep:{self.handling}", key=sender.own_key)
        await until(lambda: crew.begun(number), f"order {number} begins")
        over = time.monotonic() + self.handling
        stayed, member = crew.present, crew.join()
        await until(lambda: any(not one.partitions() for one in stayed), "others wait for it")
        await asyncio.sleep(0.5)  # their joins are parked by now, and its own
        strike = stage.struck("member stopped while joining", member.name, crew.topic)
        await ended(member, 10.0)
        assert not member.has_joined(), "it was too late: the member had joined"
        count = crew.workload.partitions
        within = max(over - time.monotonic(), 0.0) + self.limit
        await until(
            lambda: sum(len(one.partitions()) for one in stayed) == count,
            f"the others of {crew.workload.name} go on",
            within=within,
        )
        strike.until = now()


@dataclass(frozen=True, slots=True)
class Join:
    """One more member in each workload."""

    async def strike(self, stage: Stage) -> None:
        """Return when it has joined."""
        for crew in stage.crews:
            member = crew.join()
            stage.struck("member joined", member.name, crew.topic)
        await asyncio.gather(*(crew.joined() for crew in stage.crews))


@dataclass(frozen=True, slots=True)
class LeaveAndJoin:
    """A member joins each workload, then one leaves in order, after random pauses."""

    pause: tuple[float, float] = (0.2, 1.0)

    async def strike(self, stage: Stage) -> None:
        """Do both."""
        await Join().strike(stage)
        await asyncio.sleep(stage.random.uniform(*self.pause))
        for crew in stage.crews:
            victim = crew.pick()
            strike = stage.struck("member left", victim.name, crew.topic)
            await ended(victim)
            strike.until = victim.ended_at
        await asyncio.sleep(stage.random.uniform(*self.pause))


@dataclass(frozen=True, slots=True)
class FreezeMember:
    """SIGSTOP to a member of each workload for longer than its session, then SIGCONT."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Freeze and thaw."""
        victims = [crew.pick() for crew in stage.crews]
        for crew, victim in zip(stage.crews, victims, strict=True):
            victim.freeze()
            stage.struck("member frozen", victim.name, crew.topic)
        await asyncio.sleep(self.seconds)
        for victim in victims:
            victim.thaw()


@dataclass(frozen=True, slots=True)
class FreezeOwner:
    """All members but one stop while that one is frozen past its session; then it is thawed.

    What it committed late would be taken by a group without members, and move it back (K16).
    """

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Freeze, let others take over and leave, thaw."""
        await asyncio.gather(*(self._strike(stage, crew) for crew in stage.crews))

    async def _strike(self, stage: Stage, crew: Crew) -> None:
        await crew.joined()
        victim = crew.pick()
        victim.freeze()
        stage.struck("member frozen", victim.name, crew.topic)
        await asyncio.sleep(self.seconds)
        await crew.progress(200)
        for member in crew.present:
            if member is not victim:
                strike = stage.struck("member left", member.name, crew.topic)
                await ended(member)
                strike.until = member.ended_at
        victim.thaw()
        await crew.progress(200)
        crew.join()


@dataclass(frozen=True, slots=True)
class KillOwner:
    """The members that own partitions are killed, after a while in which others had none."""

    after: float

    async def strike(self, stage: Stage) -> None:
        """Wait, kill, and expect those that stood by to take over."""
        for crew in stage.crews:
            await crew.joined()
            await asyncio.sleep(self.after)
            owners = [member for member in crew.present if member.partitions()]
            assert 0 < len(owners) < len(crew.present), "nobody stands by"
            for owner in owners:
                await owner.end(signal.SIGKILL)
                stage.struck("member killed", owner.name, crew.topic)
            crew.join()


async def ended(member: Process, limit: float = 30.0) -> None:
    """Stop a member in order.

    Raises:
        AssertionError: it took longer, or did not exit with 0.
    """
    seconds = await member.end(signal.SIGTERM)
    assert member.exit_code == 0, f"{member.name}: {member.exit_code}: {member.last_words()}"
    assert seconds < limit, f"{member.name} took {seconds:.1f} s to stop"


BLOCKED = "event loop was blocked"
OVERAGED = "longer than max_record_age"
SILENT = "have not answered"
REASONS = (BLOCKED, OVERAGED, SILENT)
"""Parts of what the health of a service says, as a scenario waits for them."""


async def until_told(crew: Crew, reason: str, *, within: float) -> float:
    """Wait until the health of a member names a reason; returns how many seconds it took."""
    word = reason.replace(" ", "_")  # as in its journal
    return await until(
        lambda: any(member.has_told(word) for member in crew.present),
        f"a member of {crew.workload.name} says {reason!r}",
        within=within,
    )

"""Faults of members: killed, stopped, joined or frozen."""

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
    """Kills a member of each workload with SIGKILL, and starts another one in its place.

    The kill may happen at any time, even during a rebalance; at least one joined member is left.
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
    """Kills a member of each workload at a point between a failure and its commit.

    See `points.py`. Another member is started in its place.
    """

    point: str

    async def strike(self, stage: Stage) -> None:
        """Wait until a member stops at the point, and kill it."""
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
    """Stops a member of each workload with SIGTERM, and then starts another one."""

    limit: float = 30.0

    async def strike(self, stage: Stage) -> None:
        """Stop the member gracefully, with exit code 0."""
        await asyncio.gather(*(self._stop(stage, crew) for crew in stage.crews))

    async def _stop(self, stage: Stage, crew: Crew) -> None:
        await self.leave(stage, crew)
        crew.join()

    async def leave(self, stage: Stage, crew: Crew) -> None:
        """Stop a member of one workload without a replacement."""
        victim = crew.pick()
        strike = stage.struck("member stopped", victim.name, crew.topic)
        await ended(victim, self.limit)
        strike.until = victim.ended_at


@dataclass(frozen=True, slots=True)
class StopWhileJoining:
    """Stops a member whose JoinGroup is parked while another member handles a record.

    The group continues at most `limit` seconds after that record. If the member had not left, the
    group would wait for the end of its session.
    """

    handling: float = 12.0
    limit: float = 5.0

    async def strike(self, stage: Stage) -> None:
        """Begin a long record, let a member join, stop it, and check that the others continue."""
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
    """Starts one more member in each workload."""

    async def strike(self, stage: Stage) -> None:
        """Return when the member has joined."""
        for crew in stage.crews:
            member = crew.join()
            stage.struck("member joined", member.name, crew.topic)
        await asyncio.gather(*(crew.joined() for crew in stage.crews))


@dataclass(frozen=True, slots=True)
class LeaveAndJoin:
    """Lets a member join each workload and one leave gracefully, after random pauses."""

    pause: tuple[float, float] = (0.2, 1.0)

    async def strike(self, stage: Stage) -> None:
        """Let one member join and one leave."""
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
    """Freezes a member of each workload for longer than its session, then thaws it."""

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
    """Freezes one member past its session, stops all others meanwhile, and thaws it.

    A group without members would accept a late commit of that member, and move back (K16).
    """

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Freeze the member, let others take over and leave, and thaw it."""
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
    """Kills the members that own partitions, after others have had none for a while."""

    after: float

    async def strike(self, stage: Stage) -> None:
        """Wait, kill the owners, and expect the idle members to take over."""
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
    """Stop a member gracefully.

    Raises:
        AssertionError: the stop took longer than the limit, or the exit code is not 0.
    """
    seconds = await member.end(signal.SIGTERM)
    assert member.exit_code == 0, f"{member.name}: {member.exit_code}: {member.last_words()}"
    assert seconds < limit, f"{member.name} took {seconds:.1f} s to stop"


BLOCKED = "event loop was blocked"
OVERAGED = "longer than max_record_age"
SILENT = "have not answered"
REASONS = (BLOCKED, OVERAGED, SILENT)
"""Parts of a service's health reasons, for which scenarios wait."""


async def until_told(crew: Crew, reason: str, *, within: float) -> float:
    """Wait until the health of a member names a reason; return the seconds that it took."""
    word = reason.replace(" ", "_")  # as in its journal
    return await until(
        lambda: any(member.has_told(word) for member in crew.present),
        f"a member of {crew.workload.name} says {reason!r}",
        within=within,
    )

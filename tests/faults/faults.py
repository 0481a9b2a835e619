"""The faults: what can be done to members, brokers and connections. Each says when it has fired."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kafkaesk_testing.node import KafkaNode

from .crew import Crew
from .journal import now
from .stage import Stage, Strike

__all__ = [
    "Blackhole",
    "Cut",
    "CutAtBytes",
    "Fault",
    "FreezeBroker",
    "FreezeMember",
    "Join",
    "KillBroker",
    "KillMember",
    "LeaveAndJoin",
    "MoveLeaders",
    "Outage",
    "RestartBrokers",
    "StopMember",
    "Throttle",
]


class Fault(Protocol):
    """Something that goes wrong."""

    async def strike(self, stage: Stage) -> None:
        """Do it; note each time that it fired with `stage.struck`; return when it is over.

        Raises:
            AssertionError: it could not be done.
        """


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
class StopMember:
    """SIGTERM to a member of each workload; another one is started when it has ended."""

    limit: float = 30.0

    async def strike(self, stage: Stage) -> None:
        """Stop in order: exit code 0."""
        await asyncio.gather(*(self._stop(stage, crew) for crew in stage.crews))

    async def _stop(self, stage: Stage, crew: Crew) -> None:
        victim = crew.pick()
        strike = stage.struck("member stopped", victim.name, crew.topic)
        seconds = await victim.end(signal.SIGTERM)
        strike.until = victim.ended_at
        assert victim.exit_code == 0, f"{victim.name}: {victim.exit_code}: {victim.last_words()}"
        assert seconds < self.limit, f"{victim.name} took {seconds:.1f} s to stop"
        crew.join()


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
            stage.struck("member left", victim.name, crew.topic)
            await victim.end(signal.SIGTERM)
            assert victim.exit_code == 0, victim.last_words()
        await asyncio.sleep(stage.random.uniform(*self.pause))


@dataclass(frozen=True, slots=True)
class FreezeMember:
    """SIGSTOP to a member of each workload for longer than its session, then SIGCONT."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Freeze and thaw."""
        victims = [crew.pick() for crew in stage.crews]
        for victim in victims:
            victim.freeze()
        for crew, victim in zip(stage.crews, victims, strict=True):
            stage.struck("member frozen", victim.name, crew.topic)
        await asyncio.sleep(self.seconds)
        for victim in victims:
            victim.thaw()


# --- brokers


@dataclass(frozen=True, slots=True)
class KillBroker:
    """SIGKILL to a broker, and its start some seconds later.

    `role` is "any", "coordinator" (of the first workload's group) or "leader" (of its partition 0).
    """

    role: str = "any"
    down: float = 3.0

    async def strike(self, stage: Stage) -> None:
        """Return when all replicas are in sync again."""
        node = await _find(stage, self.role)
        await asyncio.to_thread(node.kill)
        strike = stage.struck(f"{self.role} broker killed", node.id)
        await asyncio.sleep(self.down)
        await _restart(stage, node, strike)


@dataclass(frozen=True, slots=True)
class FreezeBroker:
    """SIGSTOP to a broker, then SIGCONT."""

    seconds: float
    role: str = "any"

    async def strike(self, stage: Stage) -> None:
        """Freeze and thaw."""
        node = await _find(stage, self.role)
        await asyncio.to_thread(node.freeze)
        strike = stage.struck(f"{self.role} broker frozen", node.id)
        await asyncio.sleep(self.seconds)
        await asyncio.to_thread(node.thaw)
        strike.until = strike.at + int(self.seconds * 1e6)
        await stage.heal()


@dataclass(frozen=True, slots=True)
class RestartBrokers:
    """SIGTERM to each broker in turn, and its start: a rolling restart."""

    async def strike(self, stage: Stage) -> None:
        """The next one when all replicas are in sync."""
        for node in stage.cluster.nodes:
            strike = stage.struck("broker restarted", node.id)
            await asyncio.to_thread(node.terminate)
            await _restart(stage, node, strike)


@dataclass(frozen=True, slots=True)
class Outage:
    """All brokers are killed, and started again some seconds later."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Return when all are back."""
        strike = stage.struck("all brokers killed", "all")
        await asyncio.gather(*(asyncio.to_thread(node.kill) for node in stage.cluster.nodes))
        await asyncio.sleep(self.seconds)
        await stage.heal()
        strike.until = strike.at + int(self.seconds * 1e6)


@dataclass(frozen=True, slots=True)
class MoveLeaders:
    """A broker is stopped in order and started again: its partitions change their leaders twice."""

    async def strike(self, stage: Stage) -> None:
        """Stop the leader of partition 0."""
        node = await _find(stage, "leader")
        strike = stage.struck("leaders moved", node.id)
        await asyncio.to_thread(node.terminate)
        await _restart(stage, node, strike)


async def _restart(stage: Stage, node: KafkaNode, strike: Strike) -> None:
    await asyncio.to_thread(node.start, wait=False)
    await stage.heal()
    strike.until = now()


async def _find(stage: Stage, role: str) -> KafkaNode:
    if role == "any":
        return stage.random.choice(stage.cluster.nodes)
    crew = stage.crews[0]
    async with stage.admin() as admin:
        find = _coordinator if role == "coordinator" else _leader
        number = await find(admin, crew)
    return next(node for node in stage.cluster.nodes if node.id == number)


async def _coordinator(admin: Any, crew: Crew) -> int:
    return int(await admin.find_coordinator(crew.group))


async def _leader(admin: Any, crew: Crew) -> int:
    (topic,) = await admin.describe_topics([crew.topic])
    return next(int(p["leader"]) for p in topic["partitions"] if p["partition"] == 0)


# --- connections


@dataclass(frozen=True, slots=True)
class Cut:
    """All connections to one broker, or to all, are closed."""

    everywhere: bool = False

    async def strike(self, stage: Stage) -> None:
        """At once."""
        assert stage.proxy is not None
        broker = None if self.everywhere else stage.random.randrange(len(stage.proxy.lines))
        count = stage.proxy.cut(broker)
        assert count > 0, "there was no connection to cut"
        stage.struck("connections cut", f"{count} to {'all' if broker is None else broker + 1}")


@dataclass(frozen=True, slots=True)
class CutAtBytes:
    """The connection to a broker on which the next bytes flow is closed in the middle of them."""

    most: int = 20_000

    async def strike(self, stage: Stage) -> None:
        """Wait for it to happen."""
        assert stage.proxy is not None
        broker = stage.random.randrange(len(stage.proxy.lines))
        before = stage.proxy.cuts
        stage.proxy.set(broker, cut_after_bytes=stage.random.randrange(1, self.most))
        await _wait_for(lambda: stage.proxy is not None and stage.proxy.cuts > before)
        stage.struck("connection cut in the middle", broker + 1)


@dataclass(frozen=True, slots=True)
class Blackhole:
    """One broker receives nothing and says nothing, without an error, for some seconds."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Begin and end."""
        assert stage.proxy is not None
        broker = stage.random.randrange(len(stage.proxy.lines))
        stage.proxy.set(broker, "stall")
        strike = stage.struck("broker behind a black hole", broker + 1)
        await asyncio.sleep(self.seconds)
        stage.proxy.set(broker)
        strike.until = strike.at + int(self.seconds * 1e6)


@dataclass(frozen=True, slots=True)
class Throttle:
    """Every connection is slow for some seconds."""

    seconds: float
    latency: float = 0.5
    bytes_per_second: float = 64_000

    async def strike(self, stage: Stage) -> None:
        """Begin and end."""
        assert stage.proxy is not None
        strike = stage.struck("connections throttled", "all")
        for broker in range(len(stage.proxy.lines)):
            stage.proxy.set(
                broker, latency=self.latency, bytes_per_second=self.bytes_per_second
            )
        await asyncio.sleep(self.seconds)
        for broker in range(len(stage.proxy.lines)):
            stage.proxy.set(broker)
        strike.until = strike.at + int(self.seconds * 1e6)


async def _wait_for(condition: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)



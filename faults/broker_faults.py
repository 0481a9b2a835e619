"""Faults of brokers: killed, frozen, restarted, or too few of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from kafkaesk_testing.node import KafkaNode

from .crew import Crew
from .fault import until
from .journal import now
from .member_faults import ended
from .stage import Stage, Strike

__all__ = [
    "FreezeBroker",
    "KillBroker",
    "LoseMajority",
    "MoveLeaders",
    "Outage",
    "RestartBrokers",
    "StopInOutage",
]

Role = Literal["any", "coordinator", "leader"]


@dataclass(frozen=True, slots=True)
class KillBroker:
    """Kills a broker with SIGKILL, and starts it some seconds later.

    The target is the coordinator of the first workload's group, or the leader of its partition 0.
    """

    role: Role = "any"
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
    """Freezes a broker with SIGSTOP, then thaws it with SIGCONT."""

    seconds: float
    role: Role = "any"

    async def strike(self, stage: Stage) -> None:
        """Freeze and thaw."""
        node = await _find(stage, self.role)
        await asyncio.to_thread(node.freeze)
        strike = stage.struck(f"{self.role} broker frozen", node.id)
        await asyncio.sleep(self.seconds)
        await asyncio.to_thread(node.thaw)
        strike.until = now()
        await stage.heal()


@dataclass(frozen=True, slots=True)
class RestartBrokers:
    """Restarts the brokers one by one with SIGTERM: a rolling restart."""

    async def strike(self, stage: Stage) -> None:
        """Restart each broker once all replicas are in sync."""
        for node in stage.cluster.nodes:
            strike = stage.struck("broker restarted", node.id)
            await asyncio.to_thread(node.terminate)
            await _restart(stage, node, strike)


@dataclass(frozen=True, slots=True)
class MoveLeaders:
    """Stops the leader of partition 0 gracefully and restarts it, so that leaders move twice."""

    async def strike(self, stage: Stage) -> None:
        """Stop and start the leader."""
        node = await _find(stage, "leader")
        strike = stage.struck("leaders moved", node.id)
        await asyncio.to_thread(node.terminate)
        await _restart(stage, node, strike)


@dataclass(frozen=True, slots=True)
class Outage:
    """Kills all brokers, and restarts them some seconds later."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Return when all are back."""
        strike = stage.struck("all brokers killed", "all")
        await _kill_all(stage)
        await asyncio.sleep(self.seconds)
        strike.until = now()
        await stage.heal()


@dataclass(frozen=True, slots=True)
class LoseMajority:
    """Kills all brokers but one for some seconds, so that writes lack in-sync replicas."""

    seconds: float

    async def strike(self, stage: Stage) -> None:
        """Return when all are back."""
        survivor = stage.random.choice(stage.cluster.nodes)
        strike = stage.struck("majority killed", f"all but {survivor.id}")
        others = [node for node in stage.cluster.nodes if node is not survivor]
        await asyncio.gather(*(asyncio.to_thread(node.kill) for node in others))
        await asyncio.sleep(self.seconds)
        strike.until = now()
        await stage.heal()


@dataclass(frozen=True, slots=True)
class StopInOutage:
    """Stops all processes while all brokers are away, and restarts them once brokers are back.

    The brokers are killed or frozen. With `sleeping`, a handler of each workload sleeps for this
    many seconds meanwhile.
    """

    limit: float
    are: Literal["killed", "frozen"] = "killed"
    sleeping: float = 0.0

    async def strike(self, stage: Stage) -> None:
        """Stop all processes within the limit; publishers report their undelivered messages."""
        if self.sleeping:
            await asyncio.gather(*(self._let_sleep(crew) for crew in stage.crews))
        strike = stage.struck(f"all brokers {self.are}", "all")
        await (_kill_all(stage) if self.are == "killed" else _freeze_all(stage))
        await asyncio.sleep(2.0)
        await asyncio.gather(*(self._stop(stage, crew) for crew in stage.crews))
        strike.until = now()
        await stage.heal()
        for crew in stage.crews:
            for _ in range(crew.workload.workers):
                crew.join()
            crew.publish()
            await crew.joined()

    async def _let_sleep(self, crew: Crew) -> None:
        async with crew.sending() as sender:
            number = await sender.send(f"sleep:{self.sleeping}", key=sender.own_key)
        # It may wait for the one that slept in an outage before, and is handled again.
        await until(lambda: crew.begun(number), f"order {number} begins", within=120)

    async def _stop(self, stage: Stage, crew: Crew) -> None:
        strike = stage.struck(f"stopped with brokers {self.are}", "all", crew.topic)
        everybody = (*crew.present, *(one for one in crew.publishers if one.is_running))
        await asyncio.gather(*(ended(process, self.limit) for process in everybody))
        strike.until = now()
        told = crew.publishers[-1].output.read_text()
        assert "not delivered" in told or "may or may not have been delivered" in told, told


async def _kill_all(stage: Stage) -> None:
    await asyncio.gather(*(asyncio.to_thread(node.kill) for node in stage.cluster.nodes))


async def _freeze_all(stage: Stage) -> None:
    await asyncio.gather(*(asyncio.to_thread(node.freeze) for node in stage.cluster.nodes))


async def _restart(stage: Stage, node: KafkaNode, strike: Strike) -> None:
    await asyncio.to_thread(node.start, wait=False)
    await stage.heal()
    strike.until = now()


async def _find(stage: Stage, role: Role) -> KafkaNode:
    if role == "any":
        return stage.random.choice(stage.cluster.nodes)
    async with stage.admin() as admin:
        find = _coordinator if role == "coordinator" else _leader
        number = await find(admin, stage.crews[0])
    return next(node for node in stage.cluster.nodes if node.id == number)


async def _coordinator(admin: Any, crew: Crew) -> int:
    return int(await admin.find_coordinator(crew.group))


async def _leader(admin: Any, crew: Crew) -> int:
    (topic,) = await admin.describe_topics([crew.topic])
    return next(int(p["leader"]) for p in topic["partitions"] if p["partition"] == 0)

"""The brokers, an optional proxy, and the workloads that run on them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from kafkaesk_testing import KafkaCluster
from kafkaesk_testing.properties import Listener, free_ports

from .crew import Crew
from .journal import now
from .log import read_ends
from .proxy import Proxy
from .workload import Workload

__all__ = ["Bed", "Stage", "Strike", "brokers_of", "entered", "opened", "proxy_of"]

Bed = Literal["fast", "stock", "proxy"]
NODES = 3
EXTERNAL = "EXTERNAL"


@dataclass(slots=True)
class Strike:
    """One injected fault: its time, its target, and its possible effects.

    `until` is the time of its end, or 0 for an instant fault. `kind` names its figure. `topic` is
    the topic of the affected workload, or empty for all. A fault of members moves partitions; a
    fault of brokers or connections should not.
    """

    kind: str
    target: str
    at: int
    topic: str = ""
    until: int = 0

    @property
    def moves_partitions(self) -> bool:
        """Whether a rebalance is expected."""
        return bool(self.topic)


@dataclass(slots=True)
class Stage:
    """The target of faults: brokers, proxy and workloads."""

    cluster: KafkaCluster
    proxy: Proxy | None
    folder: Path
    random: random.Random
    crews: list[Crew] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)

    @property
    def servers(self) -> list[str]:
        """The addresses for clients."""
        return self.proxy.servers if self.proxy is not None else self.cluster.servers

    def struck(self, kind: str, target: object, topic: str = "") -> Strike:
        """Note that a fault has fired."""
        strike = Strike(kind, str(target), now(), topic)
        self.strikes.append(strike)
        return strike

    async def enter(self, workload: Workload) -> Crew:
        """Start a workload, and return when it makes progress."""
        topic = f"{workload.name}-{uuid4().hex[:8]}"  # brokers may have served before
        seed = self.random.getrandbits(32)
        await self.create_topic(topic, workload.partitions)
        crew = Crew(workload, self.servers, self.folder, topic=topic, seed=seed)
        self.crews.append(crew)
        for _ in range(workload.workers):
            crew.join()
        if workload.starts_at_end:
            await crew.started()
        crew.publish()
        await crew.joined()
        await crew.progress(100)
        return crew

    async def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic on all brokers."""
        async with self.admin() as admin:
            new = NewTopic(topic, partitions, min(len(self.cluster.nodes), 3))
            answer = await admin.create_topics([new])
        assert answer.topic_errors[0][1] == 0, answer

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        async with self.admin() as admin:
            (told,) = await admin.describe_topics([topic])
        return len(told["partitions"])

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        """Return an admin client of the bare client library, without the proxy."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.cluster.servers)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    async def progress(self, records: int) -> None:
        """Wait until every workload has handled this many more records."""
        await asyncio.gather(*(crew.progress(records) for crew in self.crews))

    async def finish(self, crew: Crew) -> None:
        """Stop publishing to a workload, and wait until every record in its log was handled."""
        await crew.fall_silent()
        await crew.finish(await read_ends(self.cluster.servers, crew.topics))

    async def heal(self) -> None:
        """Let all brokers run, and all connections pass."""
        if self.proxy is not None:
            self.proxy.clear()
        await asyncio.to_thread(self.cluster.heal)


def brokers_of(bed: Bed) -> tuple[KafkaCluster, list[int]]:
    """Return the brokers of a bed, not started, and the ports of a proxy in front of them."""
    ports = free_ports(NODES) if bed == "proxy" else []
    listeners = [Listener(EXTERNAL, advertised_ports=ports)] if ports else []
    return KafkaCluster(NODES, listeners=listeners, fast_failover=bed != "stock"), ports


def proxy_of(cluster: KafkaCluster, ports: list[int]) -> Proxy:
    """Return the proxy in front of started brokers."""
    return Proxy(ports, cluster.servers_of(EXTERNAL))


@asynccontextmanager
async def opened(bed: Bed, folder: Path, seed: int) -> AsyncIterator[Stage]:
    """Run the brokers of a bed; end everything at the end."""
    cluster, ports = brokers_of(bed)
    await asyncio.to_thread(cluster.start)
    proxy = proxy_of(cluster, ports) if ports else None
    try:
        async with entered(cluster, folder, seed, proxy) as stage:
            yield stage
    finally:
        await asyncio.to_thread(cluster.stop)


@asynccontextmanager
async def entered(
    cluster: KafkaCluster, folder: Path, seed: int, proxy: Proxy | None = None
) -> AsyncIterator[Stage]:
    """Use running brokers; end the processes of all workloads at the end."""
    stage = Stage(cluster, proxy, folder, random.Random(seed))
    try:
        if proxy is not None:
            await proxy.start()
        yield stage
    finally:
        for crew in stage.crews:
            crew.kill()
        if proxy is not None:
            await proxy.stop()

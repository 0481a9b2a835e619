"""The scenarios that run in seconds, with few rounds; all of them: `uv run faults`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from faults.log import read_log
from faults.quick import timed_loosely
from faults.scenario import Scenario, play_on
from faults.scenarios import SCENARIOS
from faults.stage import brokers_of, entered, proxy_of
from faults.workload import Order
from kafkaesk_core import Application
from kafkaesk_testing import KafkaCluster

QUICK = [scenario for scenario in SCENARIOS if scenario.quick]
SEED = 1


def name_of(scenario: Scenario) -> str:
    return f"{scenario.row} {scenario.title}"


@pytest.fixture(scope="module")
def _brokers(kafka_jars: Path) -> Iterator[tuple[KafkaCluster, list[int]]]:
    cluster, ports = brokers_of("proxy")
    with cluster:
        yield cluster, ports


@pytest.fixture
def brokers(_brokers: tuple[KafkaCluster, list[int]]) -> tuple[KafkaCluster, list[int]]:
    """Three brokers for all tests, and where a proxy listens if it is to be between."""
    _brokers[0].heal()
    return _brokers


@pytest.mark.parametrize("scenario", QUICK, ids=name_of)
async def test_what_a_scenario_promises_is_kept(
    scenario: Scenario, brokers: tuple[KafkaCluster, list[int]], tmp_path: Path
) -> None:
    """F1, F2, F22 in each ordering mode: see scenarios.py."""
    cluster, ports = brokers
    proxy = proxy_of(cluster, ports) if scenario.bed == "proxy" else None

    async with entered(cluster, tmp_path, SEED, proxy) as stage:
        outcome = await play_on(stage, timed_loosely(scenario), seed=SEED, rounds=scenario.quick)

    assert outcome.problems == []
    assert len(outcome.strikes) >= scenario.quick


@pytest.mark.f14
async def test_a_killed_leader_loses_doubles_and_reorders_nothing(
    brokers: tuple[KafkaCluster, list[int]],
) -> None:
    """One kill, quicker than its scenario."""
    cluster, _ = brokers
    prefix, servers = f"leader-{uuid4().hex[:8]}.", cluster.servers
    app = Application(servers, prefix, entry_points=False, partitions=3, replication_factor=3)
    orders = [Order(id=number, key=number % 7, seq=number // 7) for number in range(3000)]
    deliveries = []

    async with app:
        for order in orders:
            deliveries.append(
                await app.raw_publish("orders", order.encode(), key=b"%d" % order.key)
            )
            if order.id == 1000:
                await asyncio.to_thread(cluster.nodes[0].kill)
            if order.id % 50 == 0:
                await asyncio.sleep(0.005)
        await asyncio.wait_for(asyncio.gather(*deliveries), 60)
        counts = app.status().published
    await asyncio.to_thread(cluster.heal)
    log = await read_log(servers, [f"{prefix}orders"], "nobody")

    assert (counts["acked"], counts["failed"], counts["unknown"]) == (3000, 0, 0)
    assert sorted(order.id for order in log.orders.values()) == list(range(3000))
    for key in range(7):
        of_key = {place: o.seq for place, o in log.orders.items() if o.key == key}
        assert [of_key[place] for place in sorted(of_key)] == list(range(len(of_key)))
        assert len({partition for partition, _ in of_key}) == 1

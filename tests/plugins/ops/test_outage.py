"""What the probes answer while no broker can be reached, and afterwards.

LARGE=1 uv run pytest -n 0 -s tests/plugins/ops/test_outage.py plays two minutes on real Kafka.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import pytest

from kafkaesk_core import Application
from kafkaesk_ops import OpsPlugin, OpsSettings
from kafkaesk_testing import EmbeddedBroker, KafkaCluster, consuming, eventually

from .test_ops import port_of, request

OUTAGE = 120.0
"""Seconds, in the long form."""


class Service:
    """A service with probes; it notes what it handles."""

    def __init__(self, servers: str, **kafka_settings: Any) -> None:
        self.ops = OpsPlugin(OpsSettings(port=0))
        self.app = Application(
            servers,
            "outage.",
            kafka_settings,
            plugins=[self.ops],
            entry_points=False,
        )
        self.handled: list[bytes] = []

        @self.app.subscribe("orders", "outage.billing")
        async def bill(order: bytes) -> None:
            self.handled.append(order)

    async def probes(self) -> tuple[int, int, list[str]]:
        """The codes of /live and /ready, and the reasons."""
        port = port_of(self.ops)
        live, _ = await request(port, "/live")
        ready, body = await request(port, "/ready")
        return live, ready, json.loads(body)["reasons"]

    async def becomes(self, ready: int, within: float) -> tuple[int, int, list[str]]:
        """Wait for this answer of /ready; return all of the answers then."""
        deadline = time.monotonic() + within
        while (found := await self.probes())[1] != ready:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        return found


async def test_a_service_without_its_brokers_is_live_not_ready_and_says_why(
    embedded_kafka: EmbeddedBroker,
) -> None:
    embedded_kafka.create_topic("outage.orders", partitions=1)  # a later one is found after seconds
    service = Service(
        f"embedded://{embedded_kafka.host_port}", session_timeout_ms=2000, heartbeat_interval_ms=300
    )

    async with consuming(service.app):
        await service.app.raw_publish("orders", b"before")
        await eventually(lambda: service.handled == [b"before"], within=20)
        before = await service.becomes(200, within=20)
        await asyncio.to_thread(embedded_kafka.set_down)
        without = await service.becomes(503, within=20)
        await asyncio.to_thread(embedded_kafka.set_up)
        after = await service.becomes(200, within=30)
        await service.app.raw_publish("orders", b"after")
        await eventually(lambda: b"after" in service.handled, within=20)

    assert (before[0], without[0], after[0]) == (200, 200, 200)
    assert any("no broker has confirmed" in reason for reason in without[2]), without


@pytest.mark.skipif(not os.environ.get("LARGE"), reason="it takes three minutes")
async def test_two_minutes_without_a_broker_are_survived(broker: KafkaCluster) -> None:
    service = Service(broker.host_port)
    seen: list[tuple[int, int, list[str]]] = []

    def note(started: float, found: tuple[int, int, list[str]]) -> None:
        if not seen or found[:2] != seen[-1][:2] or len(found[2]) != len(seen[-1][2]):
            seen.append(found)
            at = time.monotonic() - started
            sys.stdout.write(f"{at:6.1f} s  /live {found[0]}  /ready {found[1]}  {found[2]}\n")

    async with consuming(service.app):
        await service.app.raw_publish("orders", b"before")
        await eventually(lambda: service.handled == [b"before"], within=60)
        await service.becomes(200, within=60)
        await asyncio.to_thread(broker.nodes[0].kill)
        started = time.monotonic()
        while time.monotonic() - started < OUTAGE:
            note(started, await service.probes())
            await asyncio.sleep(0.5)
        without = seen[-1]
        await asyncio.to_thread(broker.heal)
        sys.stdout.write(f"{time.monotonic() - started:6.1f} s  the broker is back\n")
        note(started, await service.becomes(200, within=120))
        await service.app.raw_publish("orders", b"after")
        await eventually(lambda: b"after" in service.handled, within=60)

    assert {live for live, _, _ in seen} == {200}
    assert without[1] == 503
    assert without[2]
    assert seen[-1][1] == 200
    assert service.handled == [b"before", b"after"]

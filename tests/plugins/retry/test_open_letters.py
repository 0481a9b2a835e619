"""How many dead letters are open, as the service reports it."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry, generate_latest

from kafkaesk_core import Application
from kafkaesk_ops.metrics import Collector
from kafkaesk_retry import RetryPlugin, RetrySettings
from kafkaesk_retry.dead.ledger import CONFIGS, mark
from kafkaesk_retry.open_letters import OpenLetters
from kafkaesk_retry.places import Place, StreamNames
from kafkaesk_testing import eventually

from .conftest import Make

QUICK = {"attempts": 1, "dead_limit": 0, "count_interval": 0.2}


def is_open(app: Application, count: int | None) -> bool:
    """Whether the service says that so many are open."""
    return bool(app.status().plugins["retry"]["open_dead_letters"] == count)


async def test_letters_are_open_until_they_are_marked_as_settled(service: Make) -> None:
    one, group = service(**QUICK), f"g{uuid4().hex[:8]}"

    @one.app.subscribe("in.*", group)
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    for stream in ("in.a", "in.b"):
        for _ in range(3):
            await one.app.raw_publish(stream, b"x")
    await one.start()
    await eventually(partial(is_open, one.app, 6), within=20)

    state = f"{one.prefix}dlq-state.{group}"
    await one.app.ensure_topic(state, partitions=1, configs=CONFIGS)
    letters = await one.read(f"dlq.{group}.in.a")
    places = [Place(letter.topic, letter.partition, letter.offset) for letter in letters]
    async with AIOKafkaProducer(bootstrap_servers=list(one.servers)) as producer:
        for key, value in [mark(place, "dropped") for place in (*places, places[0])]:
            await producer.send_and_wait(state, value, key)
        await eventually(partial(is_open, one.app, 3), within=20)
        await producer.send_and_wait(state, None, str(places[1]).encode())
        await producer.send_and_wait(state, b"foreign", b"no place")
        await eventually(partial(is_open, one.app, 4), within=20)


async def test_on_a_broker_inside_the_process_they_are_counted_too() -> None:
    plugin = RetryPlugin(RetrySettings(**QUICK))
    app = Application("embedded://", entry_points=False, plugins=[plugin], partitions=1)

    @app.subscribe("in", "g")
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    async with app:
        await app.raw_publish("in", b"x")
        await app.consume_for(1, seconds=20)
        await eventually(partial(is_open, app, 1), within=20)
        metrics = generate_latest(metrics_of(app)).decode()

    assert 'kafkaesk_retry_open_dead_letters{application=""} 1.0' in metrics


def metrics_of(app: Application) -> CollectorRegistry:
    """What kafkaesk-ops shows of it."""
    registry = CollectorRegistry()
    Collector(registry).watch(app)
    return registry


async def test_what_cannot_be_counted_is_unknown_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Application("localhost:1", entry_points=False, start_timeout=0.05)
    letters = OpenLetters(app, StreamNames(), lambda: ["g"], 0.01)
    assert letters.count is None
    watching = asyncio.create_task(letters.watch())
    for _ in range(3):
        letters.count = 7
        await eventually(lambda: letters.count is None)
    failures = [r for r in caplog.records if "open is not known" in r.getMessage()]
    watching.cancel()

    assert len(failures) == 1


async def test_an_address_of_another_scheme_is_used_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was taken for a broker inside the process."""
    app = Application("cloud://east", entry_points=False)
    letters = OpenLetters(app, StreamNames(), lambda: ["g"], 0.01)
    watching = asyncio.create_task(letters.watch())

    await eventually(lambda: "provides the scheme of 'cloud://east'" in caplog.text)

    watching.cancel()


async def test_a_service_that_only_publishes_asks_nobody() -> None:
    app = Application("localhost:1", entry_points=False, start_timeout=0.05)
    letters = OpenLetters(app, StreamNames(), lambda: [], 0.01)

    await letters.watch()

    assert letters.count == 0


async def test_counting_may_be_switched_off() -> None:
    plugin = RetryPlugin(RetrySettings(count_interval=0))
    app = Application("embedded://", entry_points=False, plugins=[plugin], partitions=1)

    async with app:
        assert "open_dead_letters" not in app.status().plugins.get("retry", {})

"""`app.pause()` starts no more handlers; all else goes on (rules 8, 16, 24, 32)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from kafkaesk_core import Application, ConfigurationError, GroupStatus
from kafkaesk_core.offsets import DONE, HandlerResult
from kafkaesk_core.pauses import Pauses
from kafkaesk_core.scheduler import BatchLanes
from kafkaesk_testing import consuming, eventually


def group(app: Application) -> GroupStatus:
    (only,) = app.status().groups
    return only


# --- what is paused


def test_of_the_calls_that_name_a_stream_the_last_one_decides() -> None:
    pauses = Pauses()

    pauses.pause(None, None, "maintenance")
    assert pauses.reason("billing", "orders") == "maintenance"
    pauses.resume("billing", None)
    assert pauses.reason("billing", "orders") is None
    assert pauses.reason("shipping", "orders") == "maintenance"
    pauses.pause("billing", ["orders.*"], "")
    assert pauses.reason("billing", "orders.paid") == ""
    assert pauses.reason("billing", "customers") is None
    assert pauses.texts("billing") == [
        "all streams paused: maintenance",
        "streams orders.* paused",
    ]
    pauses.resume(None, None)
    assert pauses.texts("billing") == pauses.texts("shipping") == []


def test_what_pauses_and_resumes_for_ever_is_forgotten() -> None:
    pauses = Pauses()

    for _ in range(1000):
        pauses.pause("billing", "orders", "no database")
        pauses.resume("billing", "orders")
        pauses.pause("shipping", "orders", "no database")

    assert len(pauses._rules) <= 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"group": 5}, r"pause\(group=5\): nothing is subscribed in this group"),
        ({"group": "biling"}, r"group='biling'.*; did you mean 'billing'\? \(known: billing\)"),
        ({"streams": []}, r"pause\(streams=\[\]\): give names or patterns of streams"),
        ({"streams": b"a"}, "give names or patterns of streams"),
        ({"streams": [5]}, "give names or patterns of streams"),
        ({"reason": None}, r"pause\(reason=None\): give a text"),
    ],
)
async def test_wrong_arguments_are_refused(arguments: dict[str, Any], told: str) -> None:
    app = Application(entry_points=False)

    @app.subscribe("orders", "billing")
    async def handle(data: bytes) -> None: ...

    with pytest.raises(ConfigurationError, match=told):
        await app.pause(**arguments)


# --- lanes


async def test_a_batch_that_is_gathered_waits_for_the_end_of_the_pause() -> None:
    batches: list[list[int]] = []

    async def run(items: Any) -> HandlerResult:
        batches.append([item for (item,) in items])
        return DONE

    lanes = BatchLanes[tuple[int]](run, size=2, timeout=60)
    lanes.submit("p", None, [(1,)])
    lanes.pause(lambda group: group == "p")
    lanes.submit("p", None, [(2,)])
    lanes.submit("q", None, [(1,), (2,)])
    await lanes.wait_idle(["q"], 1)
    assert batches == [[1, 2]]

    lanes.pause(None)
    await lanes.wait_idle(["p"], 1)

    assert batches == [[1, 2], [1, 2]]


async def test_a_drain_gives_up_what_a_pause_holds_back() -> None:
    started: list[tuple[int]] = []

    async def run(items: Any) -> HandlerResult:
        started.extend(items)
        return DONE

    lanes = BatchLanes[tuple[int]](run, size=1, timeout=60)
    lanes.pause(lambda group: True)
    lanes.submit("p", None, [(1,), (2,)])

    lanes.drain(["p"])

    assert await lanes.wait_idle(["p"], 1)
    assert started == []


# --- the application


@pytest.mark.rule_24
@pytest.mark.rule_32
async def test_a_paused_stream_starts_nothing_and_all_else_goes_on(
    kafkaesk_app: Application,
) -> None:
    app = kafkaesk_app
    app.configure(partitions=2, auto_commit_interval_ms=100)
    app.schema("Any", streams=["orders", "visits"])({"type": "object"})
    handled: Counter[str] = Counter()
    release, running = asyncio.Event(), asyncio.Event()

    @app.subscribe("orders", "shop", ordering="key")
    async def bill(data: bytes) -> None:
        running.set()
        await release.wait()
        handled["orders"] += 1

    @app.subscribe("visits", "shop")
    async def count(data: bytes) -> None:
        handled["visits"] += 1

    async with consuming(app):
        await app.raw_publish("orders", b"first", b"key")
        await asyncio.wait_for(running.wait(), 20)

        await app.pause("shop", "orders", reason="the database is down")
        for number in range(20):
            await app.raw_publish("orders", b"later", b"%d" % number)
            await app.raw_publish("visits", b"visit")
        release.set()
        await eventually(lambda: handled == {"orders": 1, "visits": 20})
        await eventually(lambda: group(app).uncommitted == 0)
        health, status = app.health(), group(app)

        await app.resume("shop", "orders")
        await eventually(lambda: handled["orders"] == 21)
        after = app.health()

    assert health.is_live
    assert health.is_ready
    assert health.reasons == ("group shop: streams orders paused: the database is down",)
    assert status.paused == ("streams orders paused: the database is down",)
    prefix = app.settings.topic_prefix
    by_topic = {one.topic: one.is_paused for one in status.partitions}
    assert by_topic == {f"{prefix}orders": True, f"{prefix}visits": False}
    assert status.counts.get("lost", 0) == 0
    assert not after.is_degraded
    assert group_is_empty(app)


def group_is_empty(app: Application) -> bool:
    return app.status().groups == ()


@pytest.mark.rule_8
async def test_a_stop_ends_in_a_pause_and_the_records_are_handled_later(
    kafkaesk_app: Application,
) -> None:
    app = kafkaesk_app
    app.configure(partitions=1)
    handled: list[bytes] = []

    @app.subscribe("orders", "shop")
    async def bill(data: bytes) -> None:
        handled.append(data)
        if data == b"1":
            await app.pause(reason="enough")

    async with app:
        for number in range(5):
            await app.raw_publish("orders", b"%d" % number)
        task = asyncio.create_task(app.consume_forever())
        await eventually(lambda: len(handled) == 2, within=20)
        await eventually(lambda: group(app).running == 0)
        async with asyncio.timeout(5):
            await app.stop()
            await task
        assert handled == [b"0", b"1"]

        await app.resume()
        await app.consume_for(3, seconds=20)

    assert handled == [b"%d" % number for number in range(5)]


async def test_a_pause_may_begin_before_consuming_does(embedded_app: Application) -> None:
    app = embedded_app
    handled: list[bytes] = []

    @app.subscribe("orders", "shop")
    async def bill(data: bytes) -> None:
        handled.append(data)

    await app.pause()
    async with consuming(app):
        await app.raw_publish("orders", b"data")
        await eventually(lambda: group(app).partitions)
        paused = group(app).partitions[0].is_paused
        seen = list(handled)
        await app.resume()
        await eventually(lambda: handled == [b"data"])

    assert paused
    assert seen == []

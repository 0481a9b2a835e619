"""The end of a member that is interrupted: nothing of its client is left (rule 35)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from kafkaesk_core import Application
from kafkaesk_core.consumer.group import GroupConsumer
from kafkaesk_core.kafka import consumer as module
from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.settings import Settings
from kafkaesk_core.shutdown import Shutdown
from kafkaesk_core.topics import Topics
from kafkaesk_testing import eventually


class Connecting:
    """The commits of a member whose connection takes its time to be given up."""

    async def close(self) -> None:
        await asyncio.sleep(60)


@pytest.mark.parametrize("is_connecting", [True, False])
async def test_a_stop_that_is_cancelled_still_closes_the_client(
    is_connecting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Any] = []

    async def force_close(consumer: Any) -> None:
        closed.append(consumer)

    async def never() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(module, "force_close", force_close)
    member: Any = GroupMember(["nowhere:1"], "group", {})
    member._consumer = client = SimpleNamespace(stop=never)
    member._commits = Connecting() if is_connecting else None

    stopping = asyncio.create_task(member.stop(60))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])

    assert stopping.cancelled()
    assert closed == [client]


@pytest.mark.rule_35
async def test_a_stop_waits_for_a_member_that_is_being_replaced() -> None:
    """What it has begun to close is closed when the stop returns."""
    nothing: Any = None
    group: Any = GroupConsumer(
        "group",
        {},
        topics=Topics("", None, create_on_use=True),
        settings=Settings(),
        servers=[],
        find_raiser=nothing,
        on_finished=nothing,
    )

    async def closes_slowly() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1.5)

    group._tasks = [asyncio.create_task(closes_slowly())]
    await asyncio.sleep(0)

    await group.stop(Shutdown(5))

    assert group._tasks[0].done()


@pytest.mark.rule_35
async def test_nothing_is_polled_after_a_stop_that_the_client_keeps_from_the_polling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio.wait_for below Python 3.12 swallows a cancellation: the polling would go on."""
    getmany, swallowed, late = AIOKafkaConsumer.getmany, 0, 0

    async def swallowing(consumer: Any, *partitions: Any, **options: Any) -> Any:
        nonlocal swallowed, late
        late += bool(swallowed)
        try:
            return await getmany(consumer, *partitions, **options)
        except asyncio.CancelledError:
            swallowed += 1
            return {}

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", swallowing)
    app = Application("embedded://")

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None: ...

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: bool(app.status().groups) and app.status().groups[0].is_joined)
        await app.stop()
        await consuming

    assert swallowed == 1
    assert late == 0

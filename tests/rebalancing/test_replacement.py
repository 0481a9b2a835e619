"""A stop in the middle of a member's replacement leaves no member behind (rules 33, 35).

The client, and asyncio.wait_for before Python 3.12, may swallow the cancellation that a stop sends:
the member that was started next was in the group for ever, with partitions that nobody handled.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.structs import TopicPartition

from kafkaesk_core import Application
from kafkaesk_core.consumer.membership import Membership
from kafkaesk_core.errors import BrokerUnreachableError, NotRunningError
from kafkaesk_core.kafka.consumer import GroupMember, Listener, MemberBroken
from kafkaesk_testing import eventually


def broken() -> MemberBroken:
    error = MemberBroken()
    error.__cause__ = GroupAuthorizationFailedError("group")
    return error


class Stubborn:
    """A member that swallows cancellations, as the client may, and takes some steps for all."""

    started = 0
    running = 0

    def __init__(self) -> None:
        self._is_stopped = False

    async def start(self, pattern: str, handler: Any, timeout: float) -> None:
        await self._steps()
        if self._is_stopped:
            raise NotRunningError("the member was stopped as it started")
        Stubborn.started += 1
        Stubborn.running += 1

    async def stop(self, timeout: float) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            Stubborn.running -= 1
        await self._steps()

    async def _steps(self) -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue


@pytest.mark.parametrize("steps", range(12))
async def test_a_replacement_ends_at_whichever_step_the_stop_comes(steps: int) -> None:
    Stubborn.started = Stubborn.running = 0
    membership = Membership("group", _any(Stubborn), "^orders$", 5.0, pauses=(0, 0))
    await membership.start(_any(object()), 1.0)
    membership.joined()
    replacing = asyncio.create_task(membership.replace(broken()))
    for _ in range(steps):
        await asyncio.sleep(0)

    membership.begin_leaving()
    replacing.cancel()
    await membership.leave(1.0)
    await asyncio.wait([replacing])

    # A member that was being started when it was stopped ends by itself.
    assert Stubborn.running <= 0
    started = Stubborn.started
    await asyncio.sleep(0)
    assert Stubborn.started == started


async def test_a_pause_between_two_members_ends_with_the_stop() -> None:
    class Unreachable(Stubborn):
        async def start(self, pattern: str, handler: Any, timeout: float) -> None:
            raise BrokerUnreachableError("away")

    membership = Membership("group", _any(Unreachable), "^orders$", 5.0, pauses=(60,))
    membership.joined()
    replacing = asyncio.create_task(membership.replace(broken()))
    await asyncio.sleep(0.05)

    membership.begin_leaving()

    async with asyncio.timeout(1):
        await replacing


async def test_a_member_that_was_stopped_does_not_start() -> None:
    member = GroupMember(["127.0.0.1:1"], "group", {})
    await member.stop(1.0)

    with pytest.raises((NotRunningError, BrokerUnreachableError)):
        await member.start("^orders$", _any(None), 1.0)
    assert not member.is_started


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
async def test_nothing_of_a_replaced_member_is_left_after_a_stop(steps: int) -> None:
    """With the client itself, stopped after so many turns of the event loop."""
    app = Application("embedded://")

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None: ...

    async with app:
        await app.raw_publish("orders", b"an order")
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: bool(app.status().groups) and app.status().groups[0].is_joined)
        runtime: Any = app._runtime
        membership = runtime.consumption.groups[0]._membership
        membership._pauses = (0.01, 0.01)
        first = membership.member

        membership.member.break_off(BrokerUnreachableError("stuck"))
        await eventually(lambda: membership._replaced == 1 or membership.member is not first)
        for _ in range(steps):
            await asyncio.sleep(0)
        await app.stop()
        await consuming

    gc.collect()  # an unclosed consumer would fail this test
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == []


def _any(value: Any) -> Any:
    return value


async def test_a_member_that_leaves_is_told_of_no_assignment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """aiokafka may finish joining while it leaves; there was an error with a traceback for it."""
    told: list[str] = []

    class Handler:
        async def revoked(self, partitions: Any, *, is_lost: bool) -> None:
            told.append("revoked")

        def assigned(self, partitions: Any) -> None:
            told.append("assigned")

    member = GroupMember(["127.0.0.1:1"], "group", {})
    listener = Listener(member, Handler())
    await member.stop(1.0)

    await listener.on_partitions_assigned([TopicPartition("orders", 0)])
    await listener.on_partitions_revoked([TopicPartition("orders", 0)])

    assert told == []
    assert caplog.text == ""

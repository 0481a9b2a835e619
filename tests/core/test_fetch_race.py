"""aiokafka's fetch routine dies of an assertion when a subscription changes as it is assigned."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.consumer.subscription_state import Subscription

from kafkaesk_core import Application
from kafkaesk_testing import eventually


async def test_rule_33_a_fetch_routine_that_lost_a_race_is_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Between the wake-up for an assignment and its next step the group began to join again.

    The routine asserts that the assignment which it waited for is the present one. Dead, it took
    the member with it, and before the first assignment the application.
    """
    app = Application("embedded://")
    handled: list[bytes] = []

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None:
        handled.append(data)

    async with app:
        await app.raw_publish("orders", b"before")
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: handled == [b"before"])
        runtime: Any = app._runtime
        member = runtime.consumption.groups[0]._seat.member
        state, fetcher = member.raw._subscription, member.raw._fetcher
        routine = fetcher._fetch_task

        state._change_subscription(Subscription(state.subscription.topics))
        await eventually(lambda: bool(state._assignment_waiters))
        state._notify_assignment_waiters()  # as for an assignment that is gone by now
        await eventually(routine.done)
        await app.raw_publish("orders", b"after")
        await eventually(lambda: handled == [b"before", b"after"])
        await app.stop()
        await consuming

    assert "Unexpected error in fetcher routine" in caplog.text  # aiokafka's own line
    assert "joining the group again" not in caplog.text

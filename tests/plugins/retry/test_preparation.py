"""Topics that cannot be made at the start are tried again, until the service ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafkaesk_core import KafkaeskError
from kafkaesk_retry import cancellation, preparation
from kafkaesk_retry.preparation import Preparation
from kafkaesk_testing import eventually


@pytest.mark.rule_35
async def test_the_tries_end_although_a_cancellation_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio.wait_for below Python 3.12 may swallow one: the tries went on after the stop."""
    monkeypatch.setattr(preparation, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(cancellation, "CANCEL_AGAIN", 0.05)
    unused: Any = None
    asked, swallowed = 0, 0

    async def wanted() -> dict[str, str | None]:
        nonlocal asked, swallowed
        asked += 1
        if asked == 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        raise KafkaeskError("no broker")

    trying = Preparation(unused, wanted)
    await trying.begin()
    await eventually(lambda: asked == 2)
    async with asyncio.timeout(5):
        await trying.end()

    assert swallowed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}

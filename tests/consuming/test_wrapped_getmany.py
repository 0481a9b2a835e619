"""What wraps the client's getmany may wait after records were drained (rule 1)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from kafkaesk_core import Application
from kafkaesk_testing import eventually


async def test_no_commit_passes_over_what_a_wrapper_has_not_handed_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Instrumentations await hooks of their own there. The stop in it cancels the poll."""
    getmany, held, holding = AIOKafkaConsumer.getmany, asyncio.Event(), asyncio.Event()

    async def slow_getmany(self: Any, *arguments: Any, **options: Any) -> Any:
        records = await getmany(self, *arguments, **options)
        if records and holding.is_set():
            held.set()
            await asyncio.sleep(60)
        return records

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", slow_getmany)
    app = Application("embedded://", entry_points=False, auto_commit_interval_ms=20)
    handled: list[bytes] = []

    @app.subscribe("orders", "group")
    async def handle(data: bytes) -> None:
        handled.append(data)

    async with app:
        await (await app.raw_publish("orders", b"first", partition=0))
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: handled == [b"first"])
        holding.set()
        await (await app.raw_publish("orders", b"second", partition=0))
        await asyncio.wait_for(held.wait(), 10)
        await asyncio.sleep(0.1)  # some commits
        await app.stop()
        await consuming
        holding.clear()

        assert await app.consume_for(1, seconds=20) == 1

    assert handled == [b"first", b"second"]
    assert "told to go back" not in caplog.text

"""A handler that blocks the event loop is named, with its line and how long."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kafkaesk_core import Application
from kafkaesk_core.loop_watch import LIMIT, TICK, LoopWatch

BLOCK = LIMIT + 3 * TICK


async def blocks(data: bytes) -> None:
    time.sleep(BLOCK)  # noqa: ASYNC251 - what it is about


def blocks_further_in() -> None:
    blocked = time.monotonic() + BLOCK
    while time.monotonic() < blocked:
        pass


async def calls_what_blocks(data: bytes) -> None:
    blocks_further_in()


async def waits(data: bytes) -> None:
    await asyncio.sleep(BLOCK)


@asynccontextmanager
async def watching() -> AsyncIterator[None]:
    handlers = (blocks, calls_what_blocks, waits)
    watch = LoopWatch({handler.__code__: f"shop.{handler.__name__}" for handler in handlers})
    watch.start()
    try:
        yield
        await asyncio.sleep(2 * TICK)  # for the loop's next sign of life
    finally:
        watch.stop()


@pytest.mark.parametrize("handler", [blocks, calls_what_blocks])
async def test_a_handler_that_blocks_the_loop_is_named_while_it_does_and_when_it_ends(
    handler: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching():
        await handler(b"")  # type: ignore[operator]  # one of ours

    name = f"handler shop.{handler.__name__}"  # type: ignore[attr-defined]
    first, last = (record.getMessage() for record in caplog.records)
    assert re.fullmatch(
        rf"the event loop has been blocked for 1\.\d s by {name} \(test_loop_watch.py:\d+\); "
        r"call blocking code with await asyncio.to_thread\(...\), or the group removes this .*",
        first,
    )
    ended = re.fullmatch(rf"the event loop runs again; {name} .* blocked it for (\S+) s", last)
    assert ended is not None
    assert float(ended[1]) >= BLOCK - 0.1


async def test_a_handler_that_waits_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with watching():
        await waits(b"")

    assert caplog.records == []


async def test_a_callback_that_is_no_handler_is_named_by_its_function(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watching():
        asyncio.get_running_loop().call_soon(blocks_further_in)
        await asyncio.sleep(0)

    assert "test_loop_watch.blocks_further_in (test_loop_watch.py:" in caplog.text


async def test_one_culprit_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async with watching():
        for _ in range(2):
            await blocks(b"")
            await asyncio.sleep(2 * TICK)

    assert len(caplog.records) == 2


async def test_it_leaves_no_thread() -> None:
    before = threading.active_count()

    async with watching():
        assert threading.active_count() == before + 1

    assert threading.active_count() == before


async def test_an_application_names_its_own_handler(caplog: pytest.LogCaptureFixture) -> None:
    app = Application("embedded://", entry_points=False)
    app.subscribe("orders", "billing")(blocks)

    async with app:
        await app.raw_publish("orders", b"1")
        await app.consume_for(1, seconds=30)

    assert "by handler test_loop_watch.blocks (" in caplog.text.replace("tests.lifecycle.", "")

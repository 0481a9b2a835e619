"""The order of an application's end: what consumes may publish until it has ended (rule 34)."""

from __future__ import annotations

import asyncio

from kafkaesk_core import Application


async def test_an_end_that_is_cancelled_lets_handlers_finish_before_the_publisher_stops() -> None:
    """What a handler that runs publishes would be refused, and its record perhaps skipped."""
    app = Application("embedded://")
    running, release = asyncio.Event(), asyncio.Event()
    published: list[str] = []

    @app.subscribe("orders", "group", on_error="skip")
    async def handler(data: bytes) -> None:
        running.set()
        await release.wait()
        await (await app.raw_publish("answers", data))
        published.append(data.decode())

    await app.initialize()
    await app.raw_publish("orders", b"an order")
    consuming = asyncio.create_task(app.consume_forever())
    await asyncio.wait_for(running.wait(), 10)

    finalizing = asyncio.create_task(app.finalize())
    await asyncio.sleep(0)  # its first step: it waits for the handler
    finalizing.cancel()
    await asyncio.sleep(0.2)  # room for the mistake of going on to the publisher
    release.set()
    await asyncio.wait([finalizing, consuming])

    assert finalizing.cancelled()
    assert published == ["an order"]
    assert app.status().state == "stopped"

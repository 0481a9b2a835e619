"""An application belongs to the event loop that it was started on (one application per loop)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from kafkaesk_core import Application, Delivery, NotRunningError
from kafkaesk_core.tasks import check_loop

Use = Callable[[Application, Delivery], Awaitable[Any]]
USES: dict[str, Use] = {
    "initialize": lambda app, _: app.initialize(),
    "finalize": lambda app, _: app.finalize(),
    "stop": lambda app, _: app.stop(),
    "flush": lambda app, _: app.flush(),
    "consume_for": lambda app, _: app.consume_for(1),
    "consume_forever": lambda app, _: app.consume_forever(),
    "publish": lambda app, _: app.publish("orders", {}, schema="Order:1"),
    "publish_and_wait": lambda app, _: app.publish_and_wait("orders", {}, schema="Order:1"),
    "publish_many": lambda app, _: app.publish_many("orders", [{}], schema="Order:1"),
    "raw_publish": lambda app, _: app.raw_publish("orders", b"x"),
    "publish_internal": lambda app, _: app.publish_internal("orders", b"x", schema="Order:1"),
    "forward": lambda app, _: app.forward("orders", b"x"),
    "ensure_topic": lambda app, _: app.ensure_topic("orders"),
    "the delivery": lambda _, delivery: waited_for(delivery),
    "its callbacks": lambda _, delivery: given_to_wait(delivery),
}


async def waited_for(delivery: Delivery) -> None:
    await delivery


async def given_to_wait(delivery: Delivery) -> None:
    delivery.add_done_callback(lambda _: None)


class Loop:
    """An event loop in a thread of its own, with an application that runs there."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.app = Application(
            "embedded://", kafka_settings={"linger_ms": 5000}, entry_points=False
        )
        self.app.schema("Order")({"type": "object"})
        self.delivery = self.run(self._start())

    async def _start(self) -> Delivery:
        await self.app.initialize()
        return await self.app.raw_publish("orders", b"1")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(30)

    def close(self) -> None:
        if self.loop.is_running():
            self.run(self.app.finalize())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(10)
            self.loop.close()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("name", USES)
async def test_what_is_used_on_another_loop_says_so(elsewhere: Loop, name: str) -> None:
    running = asyncio.get_running_loop()

    with pytest.raises(NotRunningError) as raised:
        async with asyncio.timeout(5):
            await USES[name](elsewhere.app, elsewhere.delivery)

    text = str(raised.value)
    assert f"on event loop {id(running):#x}, but the application" in text
    assert f"runs on event loop {id(elsewhere.loop):#x}; use one application per" in text
    assert re.search(r"loop_scope.*run_coroutine_threadsafe\(..., app.loop\)", text)


async def test_what_may_be_asked_from_anywhere_still_may(elsewhere: Loop) -> None:
    assert elsewhere.app.status().state == "running"
    assert elsewhere.app.health().is_live
    await elsewhere.app.health_check()


async def test_the_way_that_the_error_names_works(elsewhere: Loop) -> None:
    app = elsewhere.app
    assert app.loop is not None

    published = asyncio.run_coroutine_threadsafe(app.raw_publish("orders", b"2"), app.loop)

    assert (await asyncio.wrap_future(published)).topic == "orders"


async def test_a_loop_that_was_closed_under_the_application_is_named() -> None:
    closed = asyncio.new_event_loop()
    closed.close()

    with pytest.raises(NotRunningError) as raised:
        check_loop(closed, "publish()")

    assert f"event loop {id(closed):#x} (closed); end it with 'async with app'" in str(raised.value)

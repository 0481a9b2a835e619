"""`def` handlers: they run in threads, and the event loop goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import Application, BatchFailure, Retry, Skip, hookimpl
from kafkaesk_testing import eventually

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class Order(BaseModel):
    number: int


def new_app(*plugins: object, **options: Any) -> Application:
    app = Application("embedded://", plugins=plugins, entry_points=False, **options)
    app.schema("Order", streams=["orders"])(Order)
    return app


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Handlers that wait for it are let go in the end, whatever happens."""
    event = threading.Event()
    yield event
    event.set()


class Tenants:
    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        TENANT.set(f"tenant of {message.offset}")
        return await call_next(message)


async def test_a_plain_function_runs_in_a_thread_with_the_context_of_its_message() -> None:
    app, got = new_app(Tenants()), []

    @app.subscribe("orders", "billing")
    def bill(order: Order, schema: str) -> None:
        got.append((order.number, schema, TENANT.get(), threading.current_thread()))

    result = await app.handle("orders", Order(number=7), offset=3)

    assert result.kind == "done"
    ((number, schema, tenant, thread),) = got
    assert (number, schema, tenant) == (7, "Order:1", "tenant of 3")
    assert thread is not threading.main_thread()
    assert thread.name.startswith("kafkaesk-worker")


async def test_threads_block_neither_the_event_loop_nor_one_another(gate: threading.Event) -> None:
    app = new_app()
    met, threads = threading.Barrier(3), []

    @app.subscribe("orders", "billing", concurrency=3, ordering="unordered")
    def bill(order: Order) -> None:
        threads.append(threading.current_thread())
        met.wait(20)  # passes when three handlers run at once
        assert gate.wait(20)  # which the event loop sets

    async with app:
        await app.publish_many("orders", (Order(number=number) for number in range(3)))
        consuming = asyncio.create_task(app.consume_for(3, seconds=30))
        await eventually(lambda: bool(app.status().groups) and app.status().groups[0].running == 3)
        gate.set()

        assert await consuming == 3
    await eventually(lambda: not any(thread.is_alive() for thread in threads))


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (Skip("no"), "skip"),
        (Retry("later", delay=1), "retry"),
        (LookupError("no customer"), "stop"),
        (StopIteration("of a bare next()"), "stop"),
    ],
)
async def test_what_a_thread_raises_decides_on_the_message(
    raised: BaseException, kind: str
) -> None:
    app = new_app()

    @app.subscribe("orders", "billing")
    def bill(order: Order) -> None:
        raise raised

    result = await asyncio.wait_for(app.handle("orders", Order(number=1)), 20)

    assert result.kind == kind


async def test_a_batch_may_be_handled_in_a_thread() -> None:
    app, got = new_app(), []

    @app.subscribe("orders", "archive")
    def store(orders: list[Order]) -> None:
        got.extend(orders)
        raise BatchFailure({0: Skip("enough")})

    result = await app.handle("orders", Order(number=1))

    assert (result.kind, got) == ("skip", [Order(number=1)])


async def test_an_awaitable_that_a_thread_returns_is_no_success() -> None:
    app, got = new_app(), []

    async def work(order: Order) -> None:
        got.append(order)

    @app.subscribe("orders", "billing")
    def bill(order: Order) -> Any:
        return work(order)

    result = await app.handle("orders", Order(number=1))

    assert (result.kind, got) == ("stop", [])
    assert "bill is a 'def' function and returned an awaitable" in str(result.error)


@pytest.mark.rule_30
async def test_a_thread_that_returns_after_its_timeout_has_finished(gate: threading.Event) -> None:
    app, begun = new_app(), threading.Event()

    @app.subscribe("orders", "billing", timeout_seconds=0.05)
    def bill(order: Order) -> None:
        begun.set()
        gate.wait(20)

    handling = asyncio.create_task(app.handle("orders", Order(number=1)))
    await eventually(begun.is_set)
    await asyncio.sleep(0.2)  # the timeout is over

    assert not handling.done()
    gate.set()
    assert (await asyncio.wait_for(handling, 20)).kind == "done"


@pytest.mark.rule_30
async def test_a_thread_that_does_not_end_is_stuck_and_others_take_its_slot(
    gate: threading.Event,
) -> None:
    app, got = new_app(max_record_age=0.3), []

    @app.subscribe("orders", "billing", ordering="unordered", concurrency=1, timeout_seconds=0.1)
    def bill(order: Order) -> None:
        if order.number == 0:
            gate.wait(60)
        got.append(order.number)

    async with app:
        await app.publish_many("orders", (Order(number=number) for number in range(3)))
        consuming = asyncio.create_task(app.consume_for(3, seconds=60))
        await eventually(lambda: sorted(got) == [1, 2], within=30)

        assert app.status().groups[0].stuck == 1
        assert not app.health().is_live
        gate.set()
        assert await consuming == 3


async def test_a_thread_that_outlasts_the_session_keeps_the_membership(
    kafkaesk_app: Application,
) -> None:
    """Heartbeats go on, on real Kafka: nobody takes the partition, and the record comes once."""
    kafkaesk_app.configure(
        partitions=1, kafka_settings={"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
    )
    handled = []

    @kafkaesk_app.subscribe("orders", "billing")
    def bill(data: bytes) -> None:
        time.sleep(7)
        handled.append(data)

    async with kafkaesk_app:
        consuming = asyncio.create_task(kafkaesk_app.consume_forever())
        await kafkaesk_app.raw_publish("orders", b"one")
        await eventually(lambda: generations(kafkaesk_app) != [None], within=30)
        before = generations(kafkaesk_app)
        await eventually(lambda: handled == [b"one"], within=30)
        assert generations(kafkaesk_app) == before
        await kafkaesk_app.stop()
        await consuming

    assert handled == [b"one"]


def generations(app: Application) -> list[int | None]:
    """The generation of its group, None before its partition is assigned."""
    groups = app.status().groups
    return [group.generation if group.partitions else None for group in groups] or [None]

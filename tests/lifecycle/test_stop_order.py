"""The order of an application's end: what consumes may publish until it has ended (rule 34)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kafkaesk_core import Application, ConfigurationError, HandlerError, hookimpl, run_app
from kafkaesk_core.publisher.publisher import Undelivered
from kafkaesk_core.runtime import Runtime
from kafkaesk_core.settings import Settings


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


async def test_an_end_that_is_cancelled_still_delivers_what_is_buffered_and_says_what_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivered = asyncio.get_running_loop().create_future()

    class Delivers:
        async def stop(self, timeout: float) -> Undelivered:
            return await asyncio.shield(delivered)

    nothing: Any = None
    runtime: Any = Runtime(nothing, Settings(), nothing, nothing, {}, {})
    runtime.publisher = Delivers()
    disconnected: list[bool] = []

    async def disconnect() -> None:
        disconnected.append(delivered.done())

    runtime._stack.push_async_callback(disconnect)
    runtime._stack.push_async_callback(runtime._stop_publisher)

    stopping = asyncio.create_task(runtime.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.sleep(0.01)
    delivered.set_result(Undelivered(failed={"orders": 3}))
    await asyncio.wait([stopping])

    assert stopping.cancelled()
    assert disconnected == [True]
    assert "topic orders: 3 messages were not delivered" in caplog.text


async def test_a_finalize_that_is_cancelled_many_times_still_ends_in_its_order() -> None:
    """Each cancellation ended one of its waits: after four, handlers ran without a publisher."""
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
    for _ in range(6):
        await asyncio.sleep(0.02)
        finalizing.cancel()
    assert not finalizing.done()
    release.set()
    await asyncio.wait([finalizing, consuming])

    assert finalizing.cancelled()
    assert published == ["an order"]
    assert app.status().state == "stopped"


@pytest.mark.parametrize("is_running", [True, False])
async def test_a_stop_counts_from_the_call_of_consume_forever_on(is_running: bool) -> None:
    """`create_task(app.consume_forever())` has not run a step when the next line calls stop()."""
    app = Application("embedded://")

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None: ...

    if is_running:
        await app.initialize()
    consuming = asyncio.create_task(app.consume_forever())
    counting = app.consume_for(1)
    await app.stop()

    async with asyncio.timeout(10):
        await consuming
        assert await counting == 0
    await app.finalize()


async def test_a_stop_concerns_no_consuming_that_is_asked_for_later() -> None:
    app = Application("embedded://")

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None: ...

    async with app:
        await app.stop()
        await app.raw_publish("orders", b"an order")

        assert await app.consume_for(1, seconds=20) == 1


@pytest.mark.parametrize("shape", ["one", "batch"])
async def test_a_handler_may_stop_its_application(shape: str) -> None:
    """The stop waited for the handler, which waited for the stop, until it was cancelled."""
    app = Application("embedded://", entry_points=False)
    handled: list[str] = []

    async def one(data: bytes) -> None:
        await app.stop()
        handled.append("stopped")

    async def batch(data: list[bytes]) -> None:
        await app.stop()
        handled.append("stopped")

    handlers: dict[str, Any] = {"one": one, "batch": batch}
    app.subscribe("orders", "group")(handlers[shape])
    async with app:
        await app.raw_publish("orders", b"an order")
        async with asyncio.timeout(10):  # less than drain_timeout
            await app.consume_forever()
        assert await app.consume_for(1, seconds=0.5) == 0, "it was committed"

    assert handled == ["stopped"]


async def stop_beside_another(app: Application) -> None:
    await asyncio.gather(app.stop(), asyncio.sleep(0))


async def stop_with_a_limit(app: Application) -> None:
    await asyncio.wait_for(app.stop(), 10)


async def stop_in_a_group_of_tasks(app: Application) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(app.stop())


async def stop_in_a_task_of_a_task(app: Application) -> None:
    await asyncio.create_task(stop_beside_another(app))


STOPS = (stop_beside_another, stop_with_a_limit, stop_in_a_group_of_tasks, stop_in_a_task_of_a_task)


@pytest.mark.parametrize(
    ("shape", "stop"),
    [*(("one", stop) for stop in STOPS), ("batch", STOPS[0]), ("thread", STOPS[0])],
)
async def test_a_handler_may_stop_its_application_in_a_task(
    shape: str,
    stop: Callable[[Application], Coroutine[Any, Any, None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was taken for a call from outside, which waited for the handler until it was cancelled."""
    app = Application("embedded://", entry_points=False)
    loop = asyncio.get_running_loop()
    handled: list[str] = []

    async def one(data: bytes) -> None:
        await stop(app)
        handled.append("stopped")

    async def batch(data: list[bytes]) -> None:
        await stop(app)
        handled.append("stopped")

    def thread(data: bytes) -> None:
        asyncio.run_coroutine_threadsafe(stop(app), loop).result()
        handled.append("stopped")

    handlers: dict[str, Any] = {"one": one, "batch": batch, "thread": thread}
    app.subscribe("orders", "group")(handlers[shape])
    async with app:
        await app.raw_publish("orders", b"an order")
        async with asyncio.timeout(10):  # less than drain_timeout
            await app.consume_forever()

    assert handled == ["stopped"]
    assert "redelivered" not in caplog.text


async def test_a_task_that_outlives_its_handler_waits_for_the_end_of_the_stop() -> None:
    app = Application("embedded://", entry_points=False)
    go_on, release, running = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ended: list[str] = []
    stopping: list[asyncio.Task[None]] = []

    async def stop_later() -> None:
        await go_on.wait()
        await app.stop()
        ended.append("the stop")

    @app.subscribe("orders", "group", concurrency=1)
    async def handler(data: bytes) -> None:
        if not stopping:
            stopping.append(asyncio.create_task(stop_later()))
            await asyncio.sleep(0.05)  # longer than a worker goes on without a break
            return
        running.set()
        await release.wait()
        ended.append("the handler")

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.raw_publish("orders", b"an order", partition=0)
        await app.raw_publish("orders", b"another", partition=0)
        await asyncio.wait_for(running.wait(), 20)
        go_on.set()
        await asyncio.sleep(0.1)  # room for the mistake of not waiting
        release.set()
        await asyncio.wait_for(asyncio.gather(*stopping, consuming), 20)

    assert ended == ["the handler", "the stop"]


async def test_a_handler_may_leave_the_end_of_its_application_to_a_task() -> None:
    app = Application("embedded://", entry_points=False)
    ending: list[asyncio.Task[None]] = []

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None:
        ending.append(asyncio.create_task(app.finalize()))
        await asyncio.sleep(0.05)  # so that the task begins while the handler runs

    await app.initialize()
    await app.raw_publish("orders", b"an order")
    async with asyncio.timeout(10):  # less than drain_timeout
        await app.consume_forever()
        await ending[0]

    assert app.status().state == "stopped"


async def test_a_handler_that_finalizes_its_application_is_told_why_it_cannot() -> None:
    app = Application("embedded://", entry_points=False)

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None:
        await app.finalize()

    async with app:
        await app.raw_publish("orders", b"an order")
        with pytest.raises(HandlerError, match=r"cannot finalize .* await app.stop\(\) there"):
            async with asyncio.timeout(10):
                await app.consume_forever()


async def test_a_signal_to_what_ends_by_itself_interrupts_nothing() -> None:
    """It cancelled the finalize handlers, and the failure went with it: the exit code was 0."""
    app = Application("embedded://", entry_points=False)
    finalized: list[str] = []

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None:
        raise ValueError("no order")

    async def initialize() -> None:
        await app.raw_publish("orders", b"an order")

    async def finalize() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)  # the signal is seen in a later step
        finalized.append("all of it")

    app.on("initialize", initialize)
    app.on("finalize", finalize)

    with pytest.raises(HandlerError, match="no order"):
        await run_app(app)

    assert finalized == ["all of it"]


def app_whose_start_fails(undone: list[str], in_between: Any) -> Application:
    """Its initialize handler raises; `in_between` is called while the start is being undone."""

    class Plugin:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self, app: Any) -> AsyncIterator[None]:
            yield
            in_between()
            await asyncio.sleep(0.1)  # what was called is seen in a later step
            undone.append("all of it")

    async def initialize() -> None:
        raise ConfigurationError("the start has failed")

    app = Application("embedded://", plugins=[Plugin()], entry_points=False)
    app.on("initialize", initialize)
    return app


@pytest.mark.rule_38
async def test_a_signal_while_a_failed_start_is_undone_interrupts_nothing() -> None:
    """It cancelled the undoing, and the failure went with it: the exit code was 0."""
    undone: list[str] = []
    app = app_whose_start_fails(undone, lambda: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(ConfigurationError, match="the start has failed"):
        await run_app(app)

    assert undone == ["all of it"]


@pytest.mark.rule_38
async def test_a_failed_start_that_is_cancelled_while_it_is_undone_says_why_it_failed() -> None:
    undone: list[str] = []
    tasks: list[asyncio.Task[None]] = []
    app = app_whose_start_fails(undone, lambda: tasks[0].cancel())
    tasks.append(asyncio.create_task(app.initialize()))

    with pytest.raises(ConfigurationError, match="the start has failed"):
        await tasks[0]

    assert app.status().state == "stopped"


@pytest.mark.rule_38
@pytest.mark.parametrize("is_command", [False, True], ids=["run", "kafkaesk"])
def test_a_signal_while_a_failed_start_is_undone_leaves_the_exit_code(
    is_command: bool, tmp_path: Path
) -> None:
    service = tmp_path / "failing.py"
    service.write_text(FAILING)
    command = [sys.executable, str(service)]
    if is_command:
        command = [sys.executable, "-m", "kafkaesk_core", "failing:app"]

    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == (2 if is_command else 1)
    assert "the start has failed" in ended.stderr


FAILING = """
import asyncio, signal
from contextlib import asynccontextmanager
from kafkaesk_core import Application, ConfigurationError, hookimpl, run

class Plugin:
    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app):
        yield
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)

async def initialize():
    raise ConfigurationError("the start has failed")

app = Application("embedded://", plugins=[Plugin()], entry_points=False)
app.on("initialize", initialize)

if __name__ == "__main__":
    run(app)
"""

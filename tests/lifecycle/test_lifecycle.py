"""Start is whole or undone, stop is idempotent and bounded (rules 32, 34, 35; U30 to U36)."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafkaesk_core import (
    Application,
    DeliveryError,
    HandlerError,
    NotRunningError,
    PluginError,
    Subscriber,
    SubscriptionError,
    UnhealthyError,
    hookimpl,
)
from kafkaesk_testing import KafkaCluster, consuming, eventually


async def ignore(data: bytes) -> None: ...


@pytest.mark.u30
async def test_stop_may_be_called_by_several_tasks_and_again(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.subscribe("u30", "u30")(ignore)

    async with kafkaesk_app:
        running = asyncio.create_task(kafkaesk_app.consume_forever())
        await eventually(lambda: kafkaesk_app.health().is_ready)
        await asyncio.gather(*(kafkaesk_app.stop() for _ in range(3)))
        await kafkaesk_app.stop()

        await asyncio.wait_for(running, 5)


@pytest.mark.u31
@pytest.mark.parametrize("broken", ["initialize", "lifespan", "wrap_schema"])
async def test_a_start_that_fails_is_undone(kafkaesk_app: Application, broken: str) -> None:
    entered: list[str] = []

    class Plugin:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self, app: Any) -> AsyncIterator[None]:
            entered.append("in")
            if broken == "lifespan":
                raise RuntimeError(broken)
            yield
            entered.append("out")

        @hookimpl
        async def wrap_schema(self, schema: Any, call_next: Any) -> None:
            if broken == "wrap_schema":
                raise RuntimeError(broken)
            await call_next(schema)

    async def initialize() -> None:
        await kafkaesk_app.raw_publish("u31", b"x")
        if broken == "initialize":
            raise RuntimeError(broken)

    kafkaesk_app.plugins.register(Plugin())
    kafkaesk_app.schema("Any", streams=["u31"])({"type": "object"})
    kafkaesk_app.on("initialize", initialize)
    before = asyncio.all_tasks()

    told = broken if broken == "initialize" else rf"plugin 'plugin' failed .*RuntimeError: {broken}"
    with pytest.raises((RuntimeError, PluginError), match=told):
        await kafkaesk_app.initialize()

    assert entered == (["in"] if broken == "lifespan" else ["in", "out"])
    await eventually(lambda: asyncio.all_tasks() == before)
    assert not kafkaesk_app.health().is_ready


@pytest.mark.u34
async def test_concurrent_first_publishes_start_the_application_once(
    kafkaesk_app: Application,
) -> None:
    starts = 0

    async def initialize() -> None:
        nonlocal starts
        starts += 1
        await kafkaesk_app.raw_publish("u34", b"from initialize")

    kafkaesk_app.on("initialize", initialize)

    deliveries = await asyncio.gather(*(kafkaesk_app.raw_publish("u34", b"x") for _ in range(10)))
    await asyncio.gather(*deliveries)
    await kafkaesk_app.finalize()

    assert starts == 1


@pytest.mark.u35
@pytest.mark.parametrize("fault", ["raises", "hangs"])
async def test_a_finalize_handler_cannot_keep_messages_from_being_delivered(
    kafkaesk_app: Application, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    kafkaesk_app.configure(drain_timeout=0.2, cancel_grace=0.1, commit_timeout=0.2)
    kafkaesk_app.configure(shutdown_timeout=1.0)

    async def finalize() -> None:
        if fault == "raises":
            raise RuntimeError(fault)
        await asyncio.Event().wait()

    kafkaesk_app.on("finalize", finalize)
    await kafkaesk_app.initialize()
    await (await kafkaesk_app.raw_publish("u35", b"the topic is there", partition=0))
    delivery = await kafkaesk_app.raw_publish("u35", b"x", partition=0)
    started = time.monotonic()
    await kafkaesk_app.finalize()

    assert (await delivery).offset == 1
    assert time.monotonic() - started < 4
    assert "finalize handler" in caplog.text


async def test_an_application_can_be_started_again_and_consume_again(
    kafkaesk_app: Application,
) -> None:
    got: list[bytes] = []

    @kafkaesk_app.subscribe("again", "again")
    async def handle(data: bytes) -> None:
        got.append(data)

    for number in (b"1", b"2"):
        async with kafkaesk_app:
            await kafkaesk_app.raw_publish("again", number)
            await kafkaesk_app.consume_for(1, seconds=20)
    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("again", b"3")
        await kafkaesk_app.consume_for(1, seconds=20)
        await kafkaesk_app.raw_publish("again", b"4")
        await kafkaesk_app.consume_for(1, seconds=20)
    await kafkaesk_app.finalize()

    assert got == [b"1", b"2", b"3", b"4"]


async def test_a_handler_that_is_declared_after_the_start_is_called(
    kafkaesk_app: Application,
) -> None:
    got: list[bytes] = []

    async with kafkaesk_app:
        await (await kafkaesk_app.raw_publish("late", b"1"))

        @kafkaesk_app.subscribe("late", group="late")
        async def handle(data: bytes) -> None:
            got.append(data)

        assert await kafkaesk_app.consume_for(1, seconds=20) == 1
        with pytest.raises(SubscriptionError, match="nothing fills the parameter 'unknown'"):

            @kafkaesk_app.subscribe("late", group="other")
            async def wrong(data: bytes, unknown: int) -> None: ...

    assert got == [b"1"]


@pytest.mark.rule_35
async def test_a_handler_that_outlives_its_application_does_not_start_it_again(
    kafkaesk_app: Application,
) -> None:
    started, ended, failures = asyncio.Event(), asyncio.Event(), list[BaseException]()
    kafkaesk_app.configure(drain_timeout=0.1, cancel_grace=0.1)

    @kafkaesk_app.subscribe("stubborn", group="stubborn")
    async def handle(data: bytes, subscriber: Subscriber) -> None:
        started.set()
        waiting = asyncio.ensure_future(ended.wait())
        while not ended.is_set():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                continue
        try:
            await subscriber.publish("answers", {"a": 1})
        except NotRunningError as error:
            failures.append(error)

    async with kafkaesk_app:
        await (await kafkaesk_app.raw_publish("stubborn", b"1"))
        running = asyncio.create_task(kafkaesk_app.consume_forever())
        await asyncio.wait_for(started.wait(), 20)
        await kafkaesk_app.stop()
        await running
    ended.set()
    await eventually(lambda: len(failures) == 1)

    assert "has stopped" in str(failures[0])
    assert not kafkaesk_app.health().is_ready


async def test_only_one_run_consumes_at_a_time(kafkaesk_app: Application) -> None:
    kafkaesk_app.subscribe("once", "once")(ignore)

    async with consuming(kafkaesk_app):
        with pytest.raises(NotRunningError, match="is already consuming"):
            await kafkaesk_app.consume_forever()
        with pytest.raises(NotRunningError, match="is too late"):
            kafkaesk_app.subscribe("late")(ignore)
        with pytest.raises(NotRunningError, match="before it starts"):
            kafkaesk_app.configure(partitions=2)


async def test_a_run_that_is_refused_leaves_the_other_one_alone(kafkaesk_app: Application) -> None:
    outcomes: list[BaseException | None] = []

    @kafkaesk_app.subscribe("shared", "shared", on_error="skip")
    async def commit(data: bytes, subscriber: Subscriber) -> None:
        try:
            await subscriber.consumer.commit()
        except BaseException as error:
            outcomes.append(error)
            raise
        outcomes.append(None)

    async with consuming(kafkaesk_app):
        await eventually(lambda: kafkaesk_app.health().is_ready)
        for run in (kafkaesk_app.consume_forever(), kafkaesk_app.consume_for(1)):
            with pytest.raises(NotRunningError, match="is already consuming"):
                await run
            await (await kafkaesk_app.raw_publish("shared", b"1"))
        await eventually(lambda: len(outcomes) == 2)

        assert outcomes == [None, None]
        assert kafkaesk_app.health().is_ready
        assert kafkaesk_app.health().is_live


@pytest.mark.rule_34
async def test_a_stop_while_consumers_start_ends_them(kafkaesk_app: Application) -> None:
    kafkaesk_app.subscribe("early", "early")(ignore)

    async with kafkaesk_app:
        running = asyncio.create_task(kafkaesk_app.consume_forever())
        await asyncio.sleep(0)
        await kafkaesk_app.stop()

        await asyncio.wait_for(running, 5)


async def test_lifespans_are_entered_by_stage_and_left_in_reverse(
    kafkaesk_app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    class Outer:
        stage = "observe"

        @hookimpl
        @asynccontextmanager
        async def lifespan(self, app: Any) -> AsyncIterator[None]:
            calls.append("outer in")
            yield
            calls.append("outer out")

    class Inner:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self, app: Any) -> AsyncIterator[None]:
            calls.append("inner in")
            yield
            calls.append("inner out")
            raise RuntimeError("cannot leave")

    for plugin in (Inner(), Outer()):
        kafkaesk_app.plugins.register(plugin)
    async with kafkaesk_app:
        pass

    assert calls == ["outer in", "inner in", "inner out", "outer out"]
    assert "plugin 'inner' failed while leaving its lifespan" in caplog.text


@pytest.mark.f45
@pytest.mark.d4
async def test_observers_are_told_of_everything_and_their_errors_change_nothing(
    kafkaesk_app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    class Observer:
        @hookimpl
        def schema_registered(self, schema: Any) -> None:
            told.append(f"schema_registered {schema.key}")

        @hookimpl
        def published(self, message: Any, metadata: Any, error: Any) -> None:
            told.append(f"published {message.stream} {metadata.offset} {error}")
            raise ValueError("of the observer")

        @hookimpl
        def partitions_assigned(self, event: Any) -> None:
            told.append(f"{event.kind} {len(event.partitions)}")

        @hookimpl
        def partitions_revoked(self, event: Any) -> None:
            told.append(f"{event.kind} {len(event.partitions)}")

    kafkaesk_app.plugins.register(Observer())
    kafkaesk_app.configure(partitions=1)
    kafkaesk_app.schema("Any", streams=["one"])({"type": "object"})
    kafkaesk_app.subscribe("*", "observed")(ignore)

    async with consuming(kafkaesk_app):
        await kafkaesk_app.publish_and_wait("one", {})
        await kafkaesk_app.publish_and_wait("two", {}, schema="Any:1")
        await eventually(lambda: "assigned 2" in told, within=15)

    assert told[0] == "schema_registered Any:1"
    assert {"published one 0 None", "assigned 1", "revoked 1"} <= set(told)
    assert kafkaesk_app.plugins.observer_errors["observer.published"] == 2
    assert "of the observer" in caplog.text


async def test_with_no_plugin_the_hot_path_calls_the_innermost_functions_themselves(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.subscribe("hot", "hot")(ignore)

    async with consuming(kafkaesk_app):
        runtime = kafkaesk_app._runtime
        assert runtime is not None
        assert runtime.consumption is not None
        (pipeline,) = runtime.consumption.groups[0]._pipelines

        assert runtime.publish == runtime.publisher.send
        assert pipeline.handling._layers is pipeline.handling._innermost


async def test_a_plugin_registered_while_running_acts_at_once_and_stops_when_taken_away(
    kafkaesk_app: Application,
) -> None:
    seen: list[bytes] = []

    class Late:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any) -> Any:
            seen.append(message.value)
            return await call_next(message)

    got: list[bytes] = []

    @kafkaesk_app.subscribe("late", "late")
    async def handle(data: bytes) -> None:
        got.append(data)

    async with consuming(kafkaesk_app):
        for number, change in (
            (b"1", None),
            (b"2", kafkaesk_app.plugins.register),
            (b"3", kafkaesk_app.plugins.unregister),
        ):
            if change is not None:
                change(Late() if number == b"2" else "late")
            await kafkaesk_app.raw_publish("late", number)
            await eventually(lambda n=number: n in got, within=15)  # type: ignore[misc]  # a default

    assert seen == [b"2"]


@pytest.mark.f45
@pytest.mark.d4
async def test_a_plugin_that_fails_is_named_in_the_handlers_error(
    kafkaesk_app: Application,
) -> None:
    """A layer's exception is the record's failure."""

    class Broken:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any) -> Any:
            raise ValueError("of the layer")

    kafkaesk_app.plugins.register(Broken())
    kafkaesk_app.subscribe("broken", "broken")(ignore)

    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("broken", b"x")
        with pytest.raises(HandlerError, match="of the layer, in wrap_consume of plugin 'broken'"):
            await kafkaesk_app.consume_for(1, seconds=20)


@pytest.mark.f45
async def test_a_handler_that_fails_below_a_layer_is_not_taken_for_the_layer(
    kafkaesk_app: Application,
) -> None:
    class Harmless:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any) -> Any:
            return await call_next(message)

    async def handle(data: bytes) -> None:
        raise KeyError("of the handler")

    kafkaesk_app.plugins.register(Harmless())
    kafkaesk_app.subscribe("failing", "failing")(handle)

    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("failing", b"x")
        with pytest.raises(HandlerError, match="of the handler") as raised:
            await kafkaesk_app.consume_for(1, seconds=20)

    assert "of plugin" not in str(raised.value)


@pytest.mark.f30
@pytest.mark.rule_30
@pytest.mark.rule_32
async def test_a_stuck_handler_makes_the_application_unhealthy(
    kafkaesk_app: Application,
) -> None:
    """Health is progress."""
    release = asyncio.Event()
    kafkaesk_app.configure(cancel_grace=0.1, partitions=1)

    @kafkaesk_app.subscribe("stuck", "stuck", timeout_seconds=0.1)
    async def handle(data: bytes) -> None:
        while not release.is_set():
            try:
                await asyncio.shield(asyncio.ensure_future(release.wait()))
            except asyncio.CancelledError:
                continue

    async with consuming(kafkaesk_app):
        await kafkaesk_app.raw_publish("stuck", b"x")
        await eventually(lambda: not kafkaesk_app.health().is_live)
        with pytest.raises(UnhealthyError, match="ignored their cancellation"):
            await kafkaesk_app.health_check()

        release.set()
        await eventually(lambda: kafkaesk_app.health().is_live)


def short_application(servers: list[str]) -> Application:
    return Application(
        servers,
        f"{uuid.uuid4().hex[:8]}.",
        kafka_settings={"heartbeat_interval_ms": 300, "session_timeout_ms": 10_000},
        entry_points=False,
        partitions=1,
        drain_timeout=1.0,
        cancel_grace=0.2,
        commit_timeout=1.0,
        shutdown_timeout=5.0,
    )


@pytest.mark.f12
@pytest.mark.f17
async def test_an_application_recovers_when_its_broker_was_killed_and_comes_back(
    broker: KafkaCluster,
) -> None:
    """F17 in short."""
    app = short_application(broker.servers)
    got: list[bytes] = []

    @app.subscribe("orders", "readers")
    async def handle(data: bytes) -> None:
        got.append(data)

    async with consuming(app):
        await (await app.raw_publish("orders", b"before"))
        await eventually(lambda: got == [b"before"], within=15)
        await asyncio.to_thread(broker.nodes[0].kill)
        delivery = await app.raw_publish("orders", b"meanwhile")
        await asyncio.to_thread(broker.nodes[0].restart)
        await asyncio.wait_for(delivery, 40)
        await eventually(lambda: got[-1] == b"meanwhile", within=40)
        assert app.health().is_live

    assert set(got) == {b"before", b"meanwhile"}


@pytest.mark.f18
@pytest.mark.rule_34
async def test_a_stop_without_a_broker_ends_in_time_and_tells_what_was_not_delivered(
    broker: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = short_application(broker.servers)
    app.subscribe("orders", "readers")(ignore)
    before = asyncio.all_tasks()
    await app.initialize()
    running = asyncio.create_task(app.consume_forever())
    await (await app.raw_publish("orders", b"delivered"))
    await eventually(lambda: app.health().is_ready, within=15)
    await asyncio.to_thread(broker.nodes[0].kill)
    lost = await app.raw_publish("orders", b"not delivered")

    started = time.monotonic()
    await app.finalize()
    await running

    assert time.monotonic() - started < 5.0 + 4.0
    assert isinstance(lost.exception(), DeliveryError)
    assert "orders: 1 messages" in caplog.text
    await eventually(lambda: asyncio.all_tasks() == before)

"""One record and what becomes of it: every failure is decided, no offset is closed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import aiokafka.errors as kafka
import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.consumer.error_policy import ErrorPolicy
from kafkaesk_core.consumer.fetched import FetchedBatch, FetchedRecord, Holding
from kafkaesk_core.consumer.handling import MessageHandling
from kafkaesk_core.errors import Defer, Retry, Skip, Stop
from kafkaesk_core.handlers import Binding
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.offsets import HandlerResult, OffsetTracker
from kafkaesk_core.router import Subscription

PARTITION = TopicPartition("topic", 0)


class One:
    """One record at offset 5, its handling and its tracker."""

    def __init__(
        self,
        call: Callable[[IncomingMessage], Awaitable[Any]],
        on_error: Any,
        handler: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        handler = handler or with_annotation
        subscription = Subscription("id", handler, "group", pattern="*", on_error=on_error)
        self.tracker: OffsetTracker[TopicPartition] = OffsetTracker()
        self.tracker.assign([PARTITION])
        epoch = self.tracker.register(PARTITION, [5], 0.0)
        self.stopped: list[Exception] = []
        failures = ErrorPolicy(
            subscription, report_failure=self.stopped.append, find_raiser=lambda _: None
        )
        self.handling = MessageHandling(subscription, Binding(call), self.tracker, failures, None)
        record = ConsumerRecord(*PARTITION, 5, 0, 0, None, b"value", None, -1, 5, ())
        self.holding = Holding()
        self.holding.size = 205.0
        finish = self.tracker.finisher(PARTITION)
        batch = FetchedBatch(
            PARTITION, epoch, "stream", finish=finish, holding=self.holding, room=205.0
        )
        self.fetched: FetchedRecord = (5, record, batch)

    def run(self) -> Coroutine[Any, Any, HandlerResult]:
        return self.handling.run([self.fetched])


@pytest.mark.f6
@pytest.mark.parametrize("error", [kafka.IllegalStateError, kafka.CommitFailedError, KeyError])
async def test_where_nothing_else_is_said_a_failure_stops_and_closes_no_offset(
    error: type[Exception],
) -> None:
    async def call(message: IncomingMessage) -> None:
        raise error("of the handler")

    one = One(call, "stop")

    outcome = await one.run()

    assert outcome.kind == "stop"
    assert one.tracker.state(PARTITION).watermark == 5
    assert len(one.stopped) == 1


async def test_an_error_whose_text_cannot_be_shown_is_a_failure_like_others() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise AttributeError("no text")

    async def call(message: IncomingMessage) -> None:
        raise Broken

    one = One(call, "stop")

    assert (await one.run()).kind == "stop"
    assert "Broken, whose text cannot be shown" in str(one.stopped[0])


async def without_annotation(order): ...  # type: ignore[no-untyped-def]  # as users forget it


async def with_annotation(order: bytes) -> None: ...


class Customer: ...


@pytest.mark.parametrize(
    ("handler", "subject", "is_explained"),
    [
        (without_annotation, {"schema": "Order:1", "data": {}}, True),
        (with_annotation, {"number": 1}, False),
        (without_annotation, Customer(), False),
    ],
)
async def test_an_attribute_of_a_dict_is_explained_where_the_parameter_has_no_annotation(
    handler: Any, subject: Any, is_explained: bool
) -> None:
    async def call(message: IncomingMessage) -> None:
        subject.number.denominator  # noqa: B018 (it raises)

    one = One(call, "stop", handler)
    await one.run()

    explanation = "(the parameter 'order' has no annotation, so it is the record's JSON as a dict"
    assert "AttributeError: " in str(one.stopped[0])
    assert (explanation in str(one.stopped[0])) is is_explained


@pytest.mark.rule_21
async def test_a_cancelled_handler_leaves_its_record_open() -> None:
    started = asyncio.Event()

    async def call(message: IncomingMessage) -> None:
        started.set()
        await asyncio.Event().wait()

    one = One(call, "skip")
    running = asyncio.create_task(one.run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert one.tracker.state(PARTITION).watermark == 5
    assert one.handling.counts == {}


# --- dispositions that a TaskGroup wraps


def in_task_group(*errors: BaseException) -> Callable[[IncomingMessage], Awaitable[Any]]:
    """A handler whose children each raise one of these, all of them before any is cancelled."""

    async def call(message: IncomingMessage) -> None:
        everybody = asyncio.Barrier(len(errors))

        async def child(error: BaseException) -> None:
            await everybody.wait()
            raise error

        async with asyncio.TaskGroup() as group:
            for error in errors:
                group.create_task(child(error))

    return call


@pytest.mark.d2
@pytest.mark.parametrize(
    ("errors", "on_error", "kind"),
    [
        ([Skip()], "stop", "skip"),
        ([Skip(), Skip()], "stop", "skip"),
        ([Retry(delay=1)], "stop", "retry"),
        ([Defer(1)], "stop", "deferred"),
        ([Defer(1), Defer(2)], "skip", "deferred"),
        ([Stop()], "skip", "stop"),
        ([Stop(), KeyError("x")], "skip", "stop"),
        ([Stop(), Skip()], "skip", "stop"),
        ([ExceptionGroup("inner", [KeyError("x")])], "skip", "skip"),
        ([BaseExceptionGroup("inner", [Retry(delay=1)])], "skip", "retry"),
    ],
    ids=repr,
)
async def test_dispositions_in_groups_that_agree_decide(
    errors: list[BaseException], on_error: str, kind: str
) -> None:
    """Stop always stops."""
    one = One(in_task_group(*errors), on_error)

    await one.run()

    assert one.handling.counts == {kind: 1}


async def test_of_several_retries_in_a_group_the_longest_counts() -> None:
    one = One(in_task_group(Retry(delay=1), Retry(delay=7), Retry(delay=2)), "stop")

    outcome = await one.run()

    assert (outcome.kind, outcome.delay) == ("retry", 7)


@pytest.mark.parametrize(
    "errors",
    [
        [Skip(), KeyError("x")],
        [Skip(), Retry()],
        [Retry(), KeyError("x")],
        [Retry(), Defer(1)],
        [Defer(1), KeyError("x")],
    ],
    ids=repr,
)
async def test_a_group_that_disagrees_is_the_records_failure(errors: list[BaseException]) -> None:
    """It is no Exception, and ended the application without a place."""
    asked: list[BaseException] = []

    def on_error(error: BaseException, message: IncomingMessage) -> Stop:
        asked.append(error)
        return Stop()

    one = One(in_task_group(*errors), on_error)

    assert (await one.run()).kind == "stop"
    assert isinstance(asked[0], BaseExceptionGroup)
    assert set(asked[0].exceptions) == set(errors)
    assert "topic[0]@5" in str(one.stopped[0])
    for error in errors:
        assert type(error).__name__ in str(one.stopped[0])


async def test_an_exit_in_a_group_is_no_failure() -> None:
    async def call(message: IncomingMessage) -> None:
        raise BaseExceptionGroup("several", [Skip(), SystemExit(3)])

    one = One(call, "skip")

    with pytest.raises(BaseExceptionGroup):
        await one.run()
    assert one.tracker.state(PARTITION).watermark == 5


# --- what fails after its partition was given up


@pytest.mark.rule_21
@pytest.mark.parametrize("on_error", ["stop", "skip", lambda error, message: Stop()])
@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("instead of the cancellation"),
        ExceptionGroup("of a TaskGroup", [ConnectionError()]),
        BaseExceptionGroup("of a TaskGroup", [asyncio.CancelledError()]),
        Skip(),
        Stop(),
    ],
    ids=repr,
)
async def test_what_a_handler_makes_of_its_cancellation_decides_nothing(
    error: BaseException, on_error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A rebalance stopped the application, or said "skipped" of what is redelivered."""
    started = asyncio.Event()

    async def call(message: IncomingMessage) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    one = One(call, on_error)
    running = asyncio.create_task(one.run())
    await started.wait()
    one.holding.is_released = True
    running.cancel()

    assert (await running).kind == "released"
    assert one.stopped == []
    assert one.tracker.state(PARTITION).watermark == 5
    assert one.handling.counts == {"given_up": 1}
    assert "skipped" not in caplog.text


def test_a_handler_whose_event_loop_is_gone_is_closed_without_an_outcome() -> None:
    """A task that is still pending then is thrown away, in whatever runs at that time."""

    class Suspended:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def call(message: IncomingMessage) -> None:
        await Suspended()

    one = One(call, "skip")
    handling = one.run()
    handling.send(None)

    handling.close()  # as the garbage collector does it

    assert one.tracker.state(PARTITION).watermark == 5
    assert one.stopped == []

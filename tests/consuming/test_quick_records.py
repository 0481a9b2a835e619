"""Records of which no message is made: nothing is asked for but their data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from kafkaesk_core import BatchFailure, DecodeError, IncomingMessage, Retry, Skip, Stop
from kafkaesk_core.consumer.error_policy import ErrorPolicy
from kafkaesk_core.consumer.fetched import FetchedBatch, FetchedRecord, Holding, UnreadableMessage
from kafkaesk_core.consumer.handling import BatchHandling, MessageHandling
from kafkaesk_core.handlers import ArgumentProviders, BatchBinding, bind
from kafkaesk_core.message import Unreadable
from kafkaesk_core.offsets import DONE, HandlerResult, OffsetTracker
from kafkaesk_core.router import Subscription
from kafkaesk_core.schema.registry import SchemaRegistration, Schemas
from kafkaesk_core.threads import HandlerThreads

PLACE = TopicPartition("orders", 0)


class Order(BaseModel):
    number: int


class Run:
    """A handler of orders, and records 0, 1, 2 that were fetched together."""

    def __init__(
        self,
        func: Callable[..., Awaitable[Any]],
        *values: bytes | None,
        is_counted: bool = True,
        **options: Any,
    ) -> None:
        nothing: Any = lambda *_: None  # noqa: E731 (one for all that is not asked for)
        options = {"topics": ["orders"], "on_error": "skip"} | options
        subscription = Subscription("orders", func, "group", **options)
        schemas = Schemas()
        schemas.register(SchemaRegistration("Order", 1, Order))
        binding: Any = bind(
            subscription,
            decoder=schemas.decoder,
            known=ArgumentProviders(one={}, batch={"messages": lambda messages: messages}),
            claim=nothing,
            threads=HandlerThreads(),
        )
        self.tracker: OffsetTracker[TopicPartition] = OffsetTracker()
        self.tracker.assign([PLACE])
        epoch = self.tracker.register(PLACE, range(len(values)), 0.0)
        self.policy = ErrorPolicy(subscription, report_failure=nothing, find_raiser=nothing)
        self.finished: list[str] = []
        kind: Any = BatchHandling if isinstance(binding, BatchBinding) else MessageHandling
        on_finished = self.finish if is_counted else None
        self.handling = kind(subscription, binding, self.tracker, self.policy, on_finished)
        self.batch = FetchedBatch(
            PLACE,
            epoch,
            "orders",
            finish=self.tracker.finisher(PLACE),
            holding=Holding(),
            room=1.0,
        )
        self.records: list[FetchedRecord] = [
            (n, ConsumerRecord(*PLACE, n, 0, 0, None, value, None, 0, 0, ()), self.batch)
            for n, value in enumerate(values)
        ]

    def finish(self, outcome: HandlerResult) -> None:
        self.finished.append(outcome.kind)

    async def from_(self, first: int = 0) -> HandlerResult:
        result: HandlerResult = await self.handling.run(self.records[first:])
        return result

    async def to_the_end(self, most: int = 20) -> list[HandlerResult]:
        """Run all records as one batch, and those that it keeps again."""
        results: list[HandlerResult] = []
        while self.records and len(results) < most:
            results.append(await self.from_())
            self.records = [self.records[index] for index in results[-1].kept]
        return results

    @property
    def watermark(self) -> int | None:
        return self.tracker.watermark(PLACE)


def order(number: int, schema: str = "Order:1") -> bytes:
    return b'{"schema":"%s","data":{"number":%d}}' % (schema.encode(), number)


async def test_a_usual_record_and_an_unusual_one_are_handled_alike() -> None:
    got: list[int] = []

    async def handle(data: Order) -> None:
        got.append(data.number)

    run = Run(handle, order(0), order(1), b"no JSON", None, order(2, "Order:2"), order(3, "Else:1"))

    assert await run.from_() == DONE
    assert got == [0, 1, 2]
    assert run.watermark == 6
    assert run.handling.counts == {"done": 3, "skip": 3}
    assert run.policy.last_error is not None
    assert "has schema Else:1" in run.policy.last_error.error


@pytest.mark.rule_13
async def test_a_failed_record_keeps_its_place_and_comes_again_in_its_next_attempt() -> None:
    got: list[int] = []
    left: list[BaseException] = [Retry("busy", delay=5), Skip("old")]

    async def handle(data: Order) -> None:
        got.append(data.number)
        if data.number == 1 and left:
            raise left.pop(0)

    run = Run(handle, order(0), order(1), order(2))

    outcome = await run.from_()
    assert (outcome.kind, outcome.delay, run.watermark) == ("retry", 5, 1)
    assert run.batch.message_of(run.records[1][1]).attempt == 2
    assert run.policy.last_error is not None
    assert run.policy.last_error.attempt == 1
    assert await run.from_(1) == DONE

    assert got == [0, 1, 1, 2]
    assert (run.policy.last_error.offset, run.policy.last_error.attempt) == (1, 2)
    assert run.watermark == 3


@pytest.mark.rule_21
async def test_a_cancelled_handler_leaves_its_usual_record_open() -> None:
    async def handle(data: Order) -> None:
        await asyncio.sleep(data.number)

    run = Run(handle, order(0), order(60))
    running = asyncio.create_task(run.from_())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert run.watermark == 1
    assert run.handling.counts == {"done": 1}


@pytest.mark.rule_21
async def test_nothing_is_decided_on_a_usual_record_whose_partition_was_given_up() -> None:
    async def handle(data: Order) -> None:
        run.batch.holding.is_released = True
        raise ConnectionError("instead of the cancellation")

    run = Run(handle, order(0))

    assert (await run.from_()).kind == "released"
    assert run.watermark == 0
    assert run.handling.counts == {"given_up": 1}


@pytest.mark.rule_3
async def test_a_usual_record_that_ends_after_its_epoch_closes_nothing() -> None:
    async def handle(data: Order) -> None:
        run.tracker.start_at(PLACE, 0)
        run.tracker.register(PLACE, [0], 0.0)

    run = Run(handle, order(0))

    assert await run.from_() == DONE
    assert run.watermark == 0
    assert run.tracker.stale_completions == 1
    assert run.handling.counts == {}


@asynccontextmanager
async def amid(last: int, order_of: Sequence[int]) -> AsyncIterator[Run]:
    """A run of these records, in this order, while the handler of the one numbered `last` waits.

    A message is made of the first one, because its schema is not known yet.
    """
    waits, go_on = asyncio.Event(), asyncio.Event()

    async def handle(data: Order) -> None:
        if data.number == last:
            waits.set()
            await go_on.wait()

    run = Run(handle, *map(order, range(len(order_of))), is_counted=False)
    running = asyncio.create_task(run.handling.run([run.records[n] for n in order_of]))
    await waits.wait()
    yield run
    go_on.set()
    assert await running == DONE


READERS: dict[str, tuple[Callable[[Run], object], object]] = {
    "the watermark": (lambda run: run.watermark, 2),
    "what to commit": (lambda run: run.tracker.propose(), {PLACE: 2}),
    "a limit": (lambda run: run.tracker.clamp({PLACE: 4}), {PLACE: 2}),
    "open below": (lambda run: run.tracker.open_below(PLACE, 4), [2, 3]),
    "a snapshot": (lambda run: run.tracker.state(PLACE).uncommitted, 2),
    "counts": (lambda run: run.handling.counts, {"done": 2}),
    "finished again": (lambda run: run.tracker.finish(PLACE, run.batch.epoch, 1), False),
}


@pytest.mark.rule_1
@pytest.mark.parametrize("reader", READERS)
async def test_while_a_handler_waits_the_records_before_it_are_done_for_every_reader(
    reader: str,
) -> None:
    read, expected = READERS[reader]
    async with amid(2, [0, 1, 2, 3]) as run:
        assert read(run) == expected

    assert run.batch.holding.size == -4, "of 0, since this batch was not added"
    assert run.watermark == 4


@pytest.mark.rule_3
@pytest.mark.parametrize("late", [1, 2, 3])
async def test_a_partition_that_is_lost_while_a_handler_waits_has_closed_what_is_done(
    late: int,
) -> None:
    async with amid(2, [*range(2 + late)]) as run:
        run.tracker.revoke([PLACE])

    assert run.handling.counts == {"done": 2}
    assert run.tracker.stale_completions == late


@given(st.permutations(range(7)), st.integers(0, 6))
@example([0, 1, 6, 2, 4, 3, 5], 5)  # as many as there are from the first one to the last
async def test_records_of_several_lanes_are_closed_exactly_when_they_are_done(
    order_of: list[int], at: int
) -> None:
    """Those of several keys take turns, in no order of their offsets."""
    waits = order_of[at]
    async with amid(waits, order_of) as run:
        undone = sorted(order_of[at:])
        assert run.tracker.open_below(PLACE, 7) == undone
        assert run.watermark == undone[0]

    assert run.watermark == 7
    assert run.handling.counts == {"done": 7}


async def test_a_layer_gets_the_message_of_a_usual_record() -> None:
    seen: list[tuple[int, int]] = []

    async def handle(data: Order) -> None: ...

    async def layer(message: Any, call_next: Any) -> None:
        seen.append((message.offset, message.attempt))
        await call_next(message)

    run = Run(handle, order(0), order(1))
    run.handling.compile(lambda innermost: lambda message: layer(message, innermost))

    assert await run.from_() == DONE
    assert seen == [(0, 1), (1, 1)]


USUAL = st.sampled_from([order(0), order(1), order(2)])
VALUES = USUAL | st.sampled_from([order(2, "Order:2"), order(3, "Else:1"), b"no JSON", None])
ERRORS = st.sampled_from([KeyError("x"), Retry("busy"), Skip("old"), Stop("no")])
NAMED = st.dictionaries(st.integers(0, 3), ERRORS, min_size=1, max_size=2).map(BatchFailure)
FAILURES = st.lists(st.none() | ERRORS | NAMED | NAMED, min_size=1, max_size=4)


@given(st.lists(USUAL, min_size=2, max_size=4) | st.lists(VALUES, min_size=1), FAILURES)
async def test_a_batch_goes_the_same_way_whether_or_not_its_handler_asks_for_messages(
    values: list[bytes | None], failures: list[Exception | None]
) -> None:
    """Batches that fail, in part or whole, with records that cannot be decoded among them."""
    traces = []
    for asks in (False, True):
        got: list[list[int]] = []
        left: list[Exception | None] = []

        def fail(data: Sequence[Order], got: Any = got, left: Any = left) -> None:
            got.append([one.number for one in data])
            if left and (error := left.pop(0)) is not None:
                raise error

        async def handle(data: list[Order], fail: Any = fail) -> None:
            fail(data)

        async def handle_messages(
            data: list[Order], messages: list[IncomingMessage], fail: Any = fail
        ) -> None:
            assert len(messages) == len(data)
            fail(data)

        run = Run(handle_messages if asks else handle, order(0), *values)
        first, run.records = run.records[:1], run.records[1:]
        await run.handling.run(first)  # a schema is known once a record with it was read
        left += failures
        results = [replace(result, error=None) for result in await run.to_the_end()]
        last = run.policy.last_error and replace(run.policy.last_error, at=0)
        size, counts = run.batch.holding.size, dict(run.handling.counts)
        traces.append((results, got, counts, run.finished, run.watermark, size, last))

    assert traces[0] == traces[1]


@pytest.mark.rule_3
async def test_a_batch_whose_epoch_ended_while_it_ran_closes_nothing() -> None:
    async def handle(data: list[Order]) -> None:
        if data[0].number:
            run.tracker.assign([PLACE])

    run = Run(handle, order(0), order(1), order(2))
    await run.handling.run(run.records[:1])
    await run.from_(1)

    assert run.tracker.stale_completions == 2
    assert run.finished == ["done"]


async def test_a_layer_gets_the_messages_of_a_batch_whose_handler_asks_for_none() -> None:
    seen: list[int] = []

    async def handle(data: list[Order]) -> None: ...

    def note(call_next: Any) -> Any:
        def layer(messages: list[IncomingMessage]) -> Any:
            seen.extend(message.offset for message in messages)
            return call_next(messages)

        return layer

    run = Run(handle, order(0), order(1), order(2))
    await run.handling.run(run.records[:1])
    run.handling.compile(note)
    await run.from_(1)

    assert seen == [1, 2]


@pytest.mark.parametrize("is_readable", [True, False])
async def test_a_batch_over_two_fetches_closes_the_records_of_each(is_readable: bool) -> None:
    got: list[list[int]] = []

    async def handle(data: list[Order]) -> None:
        got.append([one.number for one in data])

    run = Run(handle, order(0), order(1), order(2))
    await run.handling.run(run.records[:1])
    epoch = run.tracker.register(PLACE, [3], 0.0)
    finish, holding = run.tracker.finisher(PLACE), Holding()
    later = FetchedBatch(PLACE, epoch, "orders", finish=finish, holding=holding, room=10.0)
    record: Any = ConsumerRecord(*PLACE, 3, 0, 0, None, order(3), None, 0, 0, ())
    if not is_readable:
        record = Unreadable("orders", 0, 3, DecodeError("damaged"), value=order(3))
        later.keep(UnreadableMessage(record, later))
    run.records = [*run.records[1:], (3, record, later)]

    await run.to_the_end()

    assert got == [[0], [1, 2, 3]] if is_readable else [[0], [1, 2]]
    assert run.finished == ["done"] * 3 + ["done" if is_readable else "skip"]
    assert run.watermark == 4
    assert (run.batch.holding.size, holding.size) == (-3.0, -10.0)


@pytest.mark.rule_30
async def test_a_batch_with_a_time_limit_ends_in_time() -> None:
    async def handle(data: list[Order]) -> None:
        if data[0].number:
            await asyncio.sleep(60)

    run = Run(handle, order(0), order(1), timeout_seconds=0.01)
    await run.handling.run(run.records[:1])

    assert await run.from_(1) == DONE
    assert run.finished == ["done", "skip"]

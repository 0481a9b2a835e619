"""Deliveries on their own: what awaits them, what they tell, what they keep alive."""

from __future__ import annotations

import asyncio
import gc
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiokafka.errors as kafka
import pytest
from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core.delivery import BatchResult, Delivery, copy_exception, delivery_of
from kafkaesk_core.errors import DeliveryFailedError, DeliveryUnknownError

TP = TopicPartition("orders", 3)
LIMIT = 5.0  # seconds that a wait may take before a test gives up


@dataclass
class Mark:
    """A record's place in its batch."""

    offset: int
    timestamp: int = 1000


def written(base_offset: int = 40, timestamp: int = -1) -> RecordMetadata:
    return RecordMetadata("orders", 3, TP, base_offset, timestamp, 0, 0)


def failed(text: str = "gone") -> DeliveryFailedError:
    return DeliveryFailedError(text, topic="orders", partition=3)


def batch_of(count: int) -> tuple[BatchResult, list[Delivery]]:
    outcome = BatchResult(TP)
    return outcome, [delivery_of(outcome, Mark(index, 1000 + index)) for index in range(count)]


@contextmanager
def without_collector() -> Iterator[None]:
    """Only references that go away by themselves count."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_each_delivery_has_the_offset_and_the_timestamp_of_its_own_record() -> None:
    outcome, deliveries = batch_of(3)

    outcome.acknowledge(written(40), 3)

    metadata = await deliveries[2]
    assert (metadata.topic, metadata.partition, metadata.topic_partition) == ("orders", 3, TP)
    assert (metadata.offset, metadata.timestamp, metadata.timestamp_type) == (42, 1002, 0)
    assert [delivery.offset for delivery in deliveries] == [40, 41, 42]
    assert (deliveries[0].topic, deliveries[0].partition) == ("orders", 3)


async def test_time_of_append_is_told_where_the_topic_carries_it() -> None:
    outcome, (delivery,) = batch_of(1)

    outcome.acknowledge(written(timestamp=777), 1)

    assert (await delivery)[4:6] == (777, 1)


@pytest.mark.parametrize("metadata", [None, written(base_offset=-1)], ids=["acks=0", "duplicate"])
async def test_offset_is_none_where_the_broker_did_not_say(metadata: RecordMetadata | None) -> None:
    outcome, deliveries = batch_of(2)

    outcome.acknowledge(metadata, 2)

    assert deliveries[1].offset is None
    assert (await deliveries[1]).offset == -1


async def test_a_pending_delivery_has_no_result_yet() -> None:
    _, (delivery,) = batch_of(1)

    assert not delivery.done()
    assert not delivery.cancelled()
    assert delivery.offset is None
    assert repr(delivery) == "<Delivery orders[3] pending>"
    with pytest.raises(asyncio.InvalidStateError):
        delivery.result()
    with pytest.raises(asyncio.InvalidStateError):
        delivery.exception()


async def test_a_delivery_tells_its_state() -> None:
    good, (acked,) = batch_of(1)
    bad, (refused,) = batch_of(1)

    good.acknowledge(written(), 1)
    bad.fail(failed(), 1)

    assert repr(acked) == "<Delivery orders[3] offset=40>"
    assert acked.exception() is None
    assert refused.offset is None
    assert "DeliveryFailedError('gone')" in repr(refused)


async def test_many_tasks_may_await_one_delivery_more_than_once() -> None:
    outcome, (delivery, other) = batch_of(2)

    async def twice() -> int:
        return int((await delivery).offset + (await delivery).offset)

    waiting = [asyncio.create_task(twice()) for _ in range(3)]
    await asyncio.sleep(0)
    outcome.acknowledge(written(5), 2)

    assert await asyncio.gather(*waiting) == [10, 10, 10]
    assert (await other).offset == 6


async def test_asyncio_wait_takes_deliveries() -> None:
    outcome, deliveries = batch_of(2)
    later, (slow,) = batch_of(1)
    asyncio.get_running_loop().call_soon(outcome.acknowledge, written(), 2)
    # typeshed wants futures; a delivery is none, so that gather() can be cancelled
    everything: list[Any] = [*deliveries, slow]

    done, pending = await asyncio.wait(everything, timeout=0.05)

    assert (done, pending) == (set(deliveries), {slow})
    later.fail(failed(), 1)
    done, _ = await asyncio.wait([slow], timeout=LIMIT)  # type: ignore[type-var]  # as above
    assert done == {slow}


async def test_asyncio_wait_sees_the_first_exception() -> None:
    outcome, (good,) = batch_of(1)
    other, (bad,) = batch_of(1)
    waiting: list[Any] = [good, bad]
    asyncio.get_running_loop().call_soon(other.fail, failed(), 1)

    done, pending = await asyncio.wait(waiting, timeout=LIMIT, return_when=asyncio.FIRST_EXCEPTION)

    assert (done, pending) == ({bad}, {good})
    outcome.acknowledge(None, 1)


async def test_asyncio_gather_takes_deliveries_and_can_be_cancelled() -> None:
    outcome, deliveries = batch_of(3)
    cut_short = asyncio.ensure_future(asyncio.gather(*deliveries))
    await asyncio.sleep(0)

    cut_short.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut_short
    outcome.acknowledge(written(7), 3)

    assert [m.offset for m in await asyncio.gather(*deliveries)] == [7, 8, 9]


async def test_asyncio_wait_for_gives_up_the_wait_and_not_the_delivery() -> None:
    outcome, (delivery,) = batch_of(1)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(delivery, 0.01)
    assert not delivery.done()
    outcome.acknowledge(written(), 1)

    assert (await asyncio.wait_for(delivery, LIMIT)).offset == 40


async def test_asyncio_shield_takes_a_delivery() -> None:
    outcome, (delivery,) = batch_of(1)
    asyncio.get_running_loop().call_soon(outcome.acknowledge, written(), 1)

    assert (await asyncio.shield(delivery)).offset == 40


async def test_a_cancelled_task_leaves_the_others_waiting() -> None:
    outcome, (delivery,) = batch_of(1)

    async def wait() -> int | None:
        return int((await delivery).offset)

    cancelled, patient = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    outcome.acknowledge(written(), 1)

    assert cancelled.cancelled()
    assert await patient == 40


async def test_done_callbacks_run_soon_in_their_context() -> None:
    outcome, (delivery, _) = batch_of(2)
    variable: ContextVar[str] = ContextVar("variable", default="outer")
    called: list[tuple[Delivery, str]] = []

    def note(done: Delivery) -> None:
        called.append((done, variable.get()))

    variable.set("when added")
    delivery.add_done_callback(note)
    variable.set("later")
    outcome.acknowledge(written(), 2)
    assert called == []
    await asyncio.sleep(0)
    delivery.add_done_callback(note)
    await asyncio.sleep(0)

    assert called == [(delivery, "when added"), (delivery, "later")]


async def test_done_callbacks_can_be_removed() -> None:
    outcome, (delivery, other) = batch_of(2)
    called: list[Delivery] = []

    delivery.add_done_callback(called.append)
    delivery.add_done_callback(called.append)
    other.add_done_callback(called.append)
    removed = delivery.remove_done_callback(called.append)
    outcome.acknowledge(written(), 2)
    await asyncio.sleep(0)

    assert removed == 2
    assert delivery.remove_done_callback(called.append) == 0
    assert called == [other]


async def test_each_look_at_a_failure_gets_an_error_of_its_own() -> None:
    outcome, (delivery, _) = batch_of(2)
    cause = kafka.KafkaConnectionError("cut")
    error = DeliveryUnknownError("no answer", topic="orders", partition=3)
    error.__cause__ = cause

    outcome.fail(error, 2)
    seen = []
    for _ in range(3):
        with pytest.raises(DeliveryUnknownError, match="no answer") as caught:
            await delivery
        seen.append(caught.value)

    assert len({id(one) for one in seen}) == 3
    assert all(one.__cause__ is cause and one.topic == "orders" for one in seen)
    depths = {len(traceback.extract_tb(one.__traceback__)) for one in seen}
    assert len(depths) == 1
    assert error.__traceback__ is None


async def test_looking_at_a_failure_makes_no_reference_cycle() -> None:
    with without_collector():
        outcome, (delivery,) = batch_of(1)
        gone = weakref.ref(outcome)
        outcome.fail(failed(), 1)
        try:
            await delivery
        except DeliveryFailedError as error:
            raised = weakref.ref(error)
        looked_at = weakref.ref(delivery.exception() or failed())
        del outcome, delivery

        assert (gone(), raised(), looked_at()) == (None, None, None)


def test_a_fresh_error_keeps_all_but_the_traceback() -> None:
    try:
        raise failed("first")
    except DeliveryFailedError as error:
        error.add_note("a note")
        copied = copy_exception(error)

    assert (type(copied), copied.args) == (DeliveryFailedError, ("first",))
    assert (copied.topic, copied.partition, copied.__notes__) == ("orders", 3, ["a note"])
    assert copied.__traceback__ is None


async def test_failures_that_nobody_looks_at_are_told_once_per_batch() -> None:
    told: list[tuple[int, int, str]] = []
    outcome = BatchResult(TP, lambda one, n: told.append((n, one.count, str(one.error))))
    deliveries = [delivery_of(outcome, Mark(index)) for index in range(4)]

    outcome.fail(failed(), 4)
    assert deliveries[1].exception() is not None
    assert deliveries[1].exception() is not None
    del outcome
    assert told == []
    deliveries.clear()

    assert told == [(3, 4, "gone")]


async def test_failures_that_somebody_saw_and_successes_are_not_told() -> None:
    told: list[int] = []

    def tell(_: BatchResult, count: int) -> None:
        told.append(count)

    good, bad = BatchResult(TP, tell), BatchResult(TP, tell)
    seen = delivery_of(bad, Mark(0))
    good.acknowledge(written(), 1)
    bad.fail(failed(), 1)
    with pytest.raises(DeliveryFailedError):
        await seen
    del good, bad, seen

    assert told == []


async def test_unseen_failures_can_be_told_while_their_deliveries_are_held() -> None:
    told: list[int] = []
    outcome = BatchResult(TP, lambda _, count: told.append(count))
    delivery = delivery_of(outcome, Mark(0))

    outcome.fail(failed(), 2)
    outcome.report()
    outcome.report()
    del outcome

    assert delivery.done()
    assert told == [2]


async def test_deliveries_follow_their_batch_when_it_is_split() -> None:
    outcome, deliveries = batch_of(5)
    called: list[Delivery] = []
    waiting = [asyncio.ensure_future(delivery) for delivery in deliveries]
    for delivery in deliveries:
        delivery.add_done_callback(called.append)
    given_up = asyncio.ensure_future(deliveries[4])
    await asyncio.sleep(0)

    first, rest = outcome.split([2, 3])
    second, third = rest.split([1, 2])
    given_up.cancel()
    first.acknowledge(written(10), 2)
    second.fail(failed("the culprit"), 1)
    third.acknowledge(written(12), 2)
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert [getattr(result, "offset", str(result)) for result in results] == [
        10,
        11,
        "the culprit",
        12,
        13,
    ]
    assert called == deliveries
    assert given_up.cancelled()
    assert deliveries[4].remove_done_callback(called.append) == 0


async def test_a_split_batch_tells_of_the_unseen_failures_of_each_part() -> None:
    told: list[tuple[int, int]] = []
    outcome = BatchResult(TP, lambda one, n: told.append((n, one.count)))
    deliveries = [delivery_of(outcome, Mark(index)) for index in range(3)]

    first, second = outcome.split([1, 2])
    first.acknowledge(written(), 1)
    second.fail(failed(), 2)
    assert deliveries[2].exception() is not None
    del first, second, outcome, deliveries

    assert told == [(1, 2)]


async def test_who_peeks_sees_the_outcome_without_having_looked_at_a_failure() -> None:
    unobserved: list[int] = []
    outcome = BatchResult(TP, lambda _, count: unobserved.append(count))
    first, second = (delivery_of(outcome, Mark(index)) for index in range(2))

    assert first.peek() is None
    outcome.fail(failed("refused"), 2)
    peeked = first.peek()
    second.exception()
    outcome.report()

    assert peeked is not None
    assert peeked[0] is None
    assert str(peeked[1]) == "refused"
    assert unobserved == [1]


async def test_who_peeks_at_a_success_sees_the_metadata_of_the_record() -> None:
    outcome, deliveries = batch_of(2)

    outcome.acknowledge(written(40), 2)
    peeked = deliveries[1].peek()

    assert peeked is not None
    metadata, error = peeked
    assert metadata is not None
    assert (metadata.offset, error) == (41, None)

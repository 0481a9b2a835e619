"""Many deliveries as one: counted by batch, and none of them passed over."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core.delivery import BatchResult, PendingDeliveries
from kafkaesk_core.errors import DeliveryFailedError

TP = TopicPartition("orders", 3)
WRITTEN = RecordMetadata("orders", 3, TP, 40, -1, 0, 0)


def added(*counts: int) -> tuple[PendingDeliveries, list[BatchResult]]:
    """The deliveries of batches of so many records, one after the other by turns."""
    deliveries, results = PendingDeliveries(), [BatchResult(TP) for _ in counts]
    for index in range(max(counts)):
        for result, count in zip(results, counts, strict=True):
            if index < count:
                deliveries.add(result, index, index + 1)
    return deliveries, results


def test_what_is_done_is_counted_whatever_is_still_open_before_it() -> None:
    deliveries, (first, second) = added(2, 3)
    second.acknowledge(WRITTEN, 3)

    deliveries.take_done()
    assert deliveries.acknowledged == 3

    first.acknowledge(WRITTEN, 2)
    deliveries.take_done()
    assert deliveries.acknowledged == 5


def test_a_record_is_counted_that_is_added_after_its_batch_was_taken() -> None:
    deliveries, (result,) = added(2)
    result.acknowledge(WRITTEN, 3)
    deliveries.take_done()

    deliveries.add(result, 2, 3)
    deliveries.take_done()

    assert deliveries.acknowledged == 3


async def test_waiting_ends_with_the_last_batch() -> None:
    deliveries, (first, second) = added(2, 3)
    waiting = asyncio.ensure_future(deliveries.wait())
    second.acknowledge(WRITTEN, 3)
    await asyncio.sleep(0)
    assert not waiting.done()

    first.acknowledge(WRITTEN, 2)

    assert await waiting == 5


async def test_a_failure_is_raised_and_not_counted() -> None:
    deliveries, (first, second) = added(2, 3)
    first.acknowledge(WRITTEN, 2)
    second.fail(DeliveryFailedError("gone", topic="orders"), 3)

    with pytest.raises(DeliveryFailedError, match="gone"):
        await deliveries.wait()

    assert deliveries.acknowledged == 2


@pytest.mark.parametrize("failing", [0, 1])
async def test_each_half_of_a_split_batch_counts_for_itself(failing: int) -> None:
    deliveries, (result,) = added(5)
    halves = result.split([2, 3])
    halves[1 - failing].acknowledge(WRITTEN, 5)
    deliveries.take_done()
    assert deliveries.acknowledged == 0, "one half is not known yet"

    halves[failing].fail(DeliveryFailedError("too large", topic="orders"), 5)

    with pytest.raises(DeliveryFailedError, match="too large"):
        await deliveries.wait()


async def test_both_halves_of_a_split_batch_are_waited_for() -> None:
    deliveries, (result,) = added(5)
    waiting = asyncio.ensure_future(deliveries.wait())
    await asyncio.sleep(0)
    first, second = result.split([2, 3])
    second.acknowledge(WRITTEN, 3)
    await asyncio.sleep(0)
    assert not waiting.done()

    first.acknowledge(WRITTEN, 2)

    assert await waiting == 5


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_records_between_those_of_others_are_counted_alone(failing: int) -> None:
    """Others publish into the same batch: records 0, 1, 3, 6 and 7 are ours."""
    deliveries, result = PendingDeliveries(), BatchResult(TP)
    for index in (0, 1, 3, 6, 7):
        deliveries.add(result, index, index + 1)
    parts = result.split([2, 3, 3])
    for part, count in zip(parts, [2, 3, 3], strict=True):
        if part is parts[failing]:
            part.fail(DeliveryFailedError("too large", topic="orders"), count)
        else:
            part.acknowledge(WRITTEN, count)

    with pytest.raises(DeliveryFailedError, match="too large"):
        await deliveries.wait()


async def test_a_part_in_which_no_record_is_ours_may_fail() -> None:
    deliveries, result = PendingDeliveries(), BatchResult(TP)
    for index in (0, 4):
        deliveries.add(result, index, index + 1)
    first, second, third = result.split([2, 1, 2])
    second.fail(DeliveryFailedError("too large", topic="orders"), 1)
    first.acknowledge(WRITTEN, 2)
    third.acknowledge(WRITTEN, 2)

    assert await deliveries.wait() == 2

"""Batches: how they are gathered, and what becomes of each message of one (S9, D6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.consumer.error_policy import ErrorPolicy
from kafkaesk_core.consumer.fetched import (
    FetchedBatch,
    FetchedMessage,
    FetchedRecord,
    Holding,
    NotedBatch,
)
from kafkaesk_core.consumer.handling import BatchHandling
from kafkaesk_core.errors import BatchFailure, HandlerTimeoutError, Retry, Skip, Stop
from kafkaesk_core.handlers import BatchBinding
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.offsets import DONE, HandlerResult, OffsetTracker
from kafkaesk_core.router import Subscription
from kafkaesk_core.scheduler import BatchLanes
from kafkaesk_testing import eventually

A = TopicPartition("topic", 0)
Messages = Sequence[IncomingMessage]
CallNext = Callable[[Messages], Awaitable[Any]]


# --- gathering


class Runs:
    """Notes the batches that a lane runs; each waits until it is ended."""

    def __init__(self, *, blocks: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.ends: list[asyncio.Future[HandlerResult]] = []
        self._blocks = blocks

    async def __call__(self, items: Sequence[tuple[int]]) -> HandlerResult:
        self.batches.append([item for (item,) in items])
        if not self._blocks:
            return DONE
        self.ends.append(asyncio.get_running_loop().create_future())
        return await self.ends[-1]


def submit(lanes: BatchLanes[tuple[int]], *items: int) -> None:
    for item in items:
        lanes.submit("group", None, [(item,)])


async def test_a_full_batch_starts_at_once() -> None:
    runs = Runs()
    lanes = BatchLanes[tuple[int]](runs, size=3, timeout=60)

    submit(lanes, 0, 1, 2)
    await lanes.wait_idle(["group"], 1)

    assert runs.batches == [[0, 1, 2]]


async def test_a_part_of_a_batch_starts_when_its_first_item_has_waited() -> None:
    runs = Runs()
    lanes = BatchLanes[tuple[int]](runs, size=3, timeout=0.05)
    clock = asyncio.get_running_loop().time

    began = clock()
    submit(lanes, 0)
    await asyncio.sleep(0.03)
    submit(lanes, 1)
    assert await lanes.wait_idle(["group"], 1)

    assert runs.batches == [[0, 1]]
    assert 0.04 < clock() - began < 0.5


async def test_what_comes_in_meanwhile_is_the_next_batch_at_once() -> None:
    runs = Runs(blocks=True)
    lanes = BatchLanes[tuple[int]](runs, size=2, timeout=60)

    submit(lanes, 0, 1)
    await eventually(lambda: len(runs.ends) == 1)
    submit(lanes, 2, 3, 4)
    runs.ends[0].set_result(DONE)
    await eventually(lambda: len(runs.ends) == 2)
    runs.ends[1].set_result(DONE)
    await eventually(lambda: len(runs.ends) == 3)
    runs.ends[2].set_result(DONE)

    assert await lanes.wait_idle(["group"], 1)
    assert runs.batches == [[0, 1], [2, 3], [4]]


@pytest.mark.rule_13
async def test_what_is_kept_comes_first_again() -> None:
    runs = Runs(blocks=True)
    lanes = BatchLanes[tuple[int]](runs, size=4, timeout=0)

    submit(lanes, 0, 1, 2, 3, 4)
    await eventually(lambda: len(runs.ends) == 1)
    runs.ends[0].set_result(HandlerResult("retry", kept=(1, 3)))
    await eventually(lambda: len(runs.ends) == 2)

    assert lanes.size("group") == 3
    assert runs.batches[1] == [1, 3, 4]
    assert await lanes.stop(1) == 0


@pytest.mark.rule_18
async def test_a_drain_drops_what_waits_and_finishes_what_runs() -> None:
    runs = Runs(blocks=True)
    lanes = BatchLanes[tuple[int]](runs, size=2, timeout=0)

    submit(lanes, 0, 1, 2)
    await eventually(lambda: len(runs.ends) == 1)
    lanes.drain(["group"])
    assert lanes.size("group") == 2
    runs.ends[0].set_result(DONE)

    assert await lanes.wait_idle(["group"], 1)
    assert runs.batches == [[0, 1]]


async def test_a_drain_drops_a_batch_that_is_gathering() -> None:
    runs = Runs()
    lanes = BatchLanes[tuple[int]](runs, size=2, timeout=0.01)

    submit(lanes, 0)
    lanes.drain(["group"])

    assert await lanes.wait_idle(["group"], 0)
    lanes.discard(["group"])
    await asyncio.sleep(0.03)
    assert runs.batches == []


async def test_a_closed_partition_counts_a_running_batch_as_one_orphaned_run() -> None:
    runs = Runs(blocks=True)
    lanes = BatchLanes[tuple[int]](runs, size=2, timeout=0)
    submit(lanes, 0, 1)
    await eventually(lambda: len(runs.ends) == 1)

    assert lanes.discard(["group"]) == 1
    submit(lanes, 2, 3)  # assigned again: waits for the orphaned run
    runs.ends[0].set_result(DONE)
    await eventually(lambda: len(runs.ends) == 2)

    assert runs.batches == [[0, 1], [2, 3]]
    runs.ends[1].set_result(DONE)


# --- handling


Handler = Callable[[list[Any], Messages], Awaitable[Any]]


class NotingTracker(OffsetTracker[TopicPartition]):
    """Knows which offset was closed last."""

    last_finished = -1

    def finish(self, partition: TopicPartition, epoch: int, offset: int) -> bool:
        self.last_finished = offset
        return super().finish(partition, epoch, offset)

    def finisher(self, partition: TopicPartition) -> Callable[[int], bool]:
        finish = super().finisher(partition)

        def noting(offset: int) -> bool:
            self.last_finished = offset
            return finish(offset)

        return noting


class Batch:
    """A batch of three messages and what became of it."""

    def __init__(self, handler: Handler, *, count: int = 3, **options: Any) -> None:
        async def func(data: list[bytes]) -> None: ...

        subscription = Subscription("id", func, "group", pattern="*", **options)
        self.tracker = NotingTracker()
        self.tracker.assign([A])
        epoch = self.tracker.register(A, range(count), 0.0)
        self.stopped: list[Exception] = []
        self.finished: list[tuple[int, str]] = []
        self.handling = BatchHandling(
            subscription,
            BatchBinding(self._decode, handler),
            self.tracker,
            ErrorPolicy(
                subscription, report_failure=self.stopped.append, find_raiser=lambda error: None
            ),
            lambda outcome: self.finished.append((self.tracker.last_finished, outcome.kind)),
        )
        self.undecodable: set[int] = set()
        finish = self.tracker.finisher(A)
        batch = FetchedBatch(A, epoch, "stream", finish=finish, holding=Holding(), room=1.0)
        self.fetched: list[FetchedRecord] = [(n, self._record(n), batch) for n in range(count)]

    @staticmethod
    def _record(offset: int) -> ConsumerRecord:
        return ConsumerRecord(*A, offset, 0, 0, None, b"%d" % offset, None, 0, 1, ())

    def _decode(self, message: IncomingMessage) -> int:
        if message.offset in self.undecodable:
            raise ValueError(f"cannot decode {message.offset}")
        return int(message.value or b"")

    def put_around(self, layer: Callable[[Messages, CallNext], Any]) -> None:
        """Put a layer around the handler."""
        self.handling.compile(lambda innermost: lambda messages: layer(messages, innermost))

    @property
    def attempts(self) -> list[int]:
        """The attempts of the records that are kept."""
        return [batch.message_of(record).attempt for _, record, batch in self.fetched]

    async def run(self) -> HandlerResult:
        """One turn, as the lane does it: what is kept stays."""
        outcome = await self.handling.run(self.fetched)
        self.fetched = [self.fetched[index] for index in outcome.kept]
        return outcome


def raising(*errors: BaseException) -> Handler:
    """A handler that raises these, one per call, and then returns."""
    left = list(errors)

    async def handle(data: list[Any], messages: Messages) -> None:
        if left:
            raise left.pop(0)

    return handle


@pytest.mark.s9
async def test_a_handler_that_returns_has_done_all() -> None:
    got: list[list[int]] = []

    async def handle(data: list[Any], messages: Messages) -> None:
        got.append(data)

    batch = Batch(handle)

    assert await batch.run() == DONE
    assert got == [[0, 1, 2]]
    assert batch.tracker.state(A).watermark == 3
    assert batch.handling.counts == {"done": 3}


async def test_a_message_that_comes_again_is_that_of_its_next_attempt() -> None:
    got: list[list[tuple[int, int]]] = []

    async def handle(data: list[Any], messages: Messages) -> None:
        got.append([(message.offset, message.attempt) for message in messages])
        if len(got) == 1:
            raise BatchFailure({1: Retry(delay=0)})

    batch = Batch(handle)
    await batch.run()
    await batch.run()

    assert got == [[(0, 1), (1, 1), (2, 1)], [(1, 2)]]


async def test_records_that_were_fetched_at_two_times_are_closed_each_in_its_own() -> None:
    """The lane gathers over polls: in between, the partition may have been read anew."""
    batch = Batch(raising())
    earlier = batch.fetched[0][2]
    epoch = batch.tracker.register(A, range(3, 5), 0.0)
    later = FetchedBatch(
        A, epoch, "later", finish=batch.tracker.finisher(A), holding=Holding(), room=10.0
    )
    batch.fetched += [(offset, batch._record(offset), later) for offset in (3, 4)]
    streams: list[str] = []
    batch.put_around(lambda messages, call_next: note(messages, call_next, streams))

    assert await batch.run() == DONE

    assert streams == ["stream"] * 3 + ["later"] * 2
    assert (earlier.holding.size, later.holding.size) == (-3.0, -20.0)
    assert batch.tracker.state(A).watermark == 5


async def note(messages: Messages, call_next: CallNext, streams: list[str]) -> Any:
    streams += [message.stream for message in messages]
    return await call_next(messages)


async def test_a_batch_ends_before_a_record_that_still_waits_for_its_time() -> None:
    got: list[list[tuple[int, int]]] = []

    async def handle(data: list[Any], messages: Messages) -> None:
        got.append([(message.offset, message.attempt) for message in messages])

    batch = Batch(handle)
    fetched = batch.fetched[0][2]
    noted = NotedBatch(
        A, fetched.epoch, "stream", finish=fetched.finish, holding=Holding(), room=1.0
    )
    waiting = FetchedMessage(batch._record(1), noted, 4)
    noted.keep(waiting)
    noted.due = {1: monotonic() + 60}
    batch.fetched = [(offset, record, noted) for offset, record, _ in batch.fetched]

    first = await batch.run()
    second = await batch.run()
    noted.due[1] = monotonic()
    third = await batch.run()

    assert (first.kind, first.kept) == ("defer", range(1, 3))
    assert (second.kind, second.kept) == ("defer", range(2))
    assert 59 < second.delay <= 60
    assert third == DONE
    assert got == [[(0, 1)], [(1, 4), (2, 1)]]


async def test_an_exception_fails_the_whole_batch() -> None:
    batch = Batch(raising(KeyError("x")))

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("stop", (0, 1, 2))
    assert batch.tracker.state(A).watermark == 0
    assert "topic[0]@0-2, 3 messages" in str(batch.stopped[0])
    assert batch.finished == []


async def test_a_batch_failure_fails_what_it_names_and_the_others_are_done() -> None:
    batch = Batch(raising(BatchFailure({1: KeyError("x")})))

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("stop", (1,))
    assert batch.finished == [(0, "done"), (2, "done")]
    assert batch.tracker.state(A).watermark == 1, "the tracker stays contiguous"
    assert "topic[0]@1 " in str(batch.stopped[0])


async def test_each_message_has_its_own_disposition(caplog: pytest.LogCaptureFixture) -> None:
    failure = BatchFailure({0: Skip("old"), 1: Retry("busy", delay=0.5), 2: Retry(delay=2)})
    batch = Batch(raising(failure), count=4)

    with caplog.at_level(logging.WARNING):
        outcome = await batch.run()

    assert (outcome.kind, outcome.delay, outcome.kept) == ("retry", 2, (1, 2))
    assert batch.finished == [(0, "skip"), (3, "done")]
    assert batch.attempts == [2, 2]
    assert "topic[0]@0 (group group" in caplog.messages[0]
    assert caplog.messages[0].endswith("skipped: old")
    assert await batch.run() == DONE
    assert batch.tracker.state(A).watermark == 4


async def test_batch_failures_of_a_task_group_are_taken_together() -> None:
    group = ExceptionGroup(
        "unhandled errors in a TaskGroup",
        [BatchFailure({0: Skip("old")}), BatchFailure({1: Retry(delay=2)})],
    )
    batch = Batch(raising(group))

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("retry", (1,))
    assert batch.finished == [(0, "skip"), (2, "done")]


@pytest.mark.rule_21
async def test_a_batch_whose_partition_was_given_up_decides_nothing() -> None:
    batch = Batch(raising(ConnectionError("instead of the cancellation")), on_error="skip")
    batch.fetched[0][2].holding.is_released = True

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("released", (0, 1, 2))
    assert batch.finished == []
    assert batch.handling.counts == {"given_up": 3}


async def test_stop_wins_and_keeps_what_would_be_retried() -> None:
    batch = Batch(raising(BatchFailure({0: Retry(), 2: Stop("no more")})))

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("stop", (0, 2))
    assert batch.tracker.state(A).watermark == 0


async def test_on_error_decides_for_each_message() -> None:
    def decide(error: BaseException, message: IncomingMessage) -> Skip | Retry:
        return Skip("even") if message.offset % 2 == 0 else Retry(delay=0)

    batch = Batch(raising(KeyError("x")), on_error=decide)

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("retry", (1,))
    assert batch.finished == [(0, "skip"), (2, "skip")]


async def test_the_same_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    batch = Batch(raising(Retry("later", delay=1)))

    with caplog.at_level(logging.WARNING):
        await batch.run()

    told = [record for record in caplog.records if record.name == "kafkaesk.handler"]
    (message,) = [record.getMessage() for record in told]
    assert message.startswith("topic[0]@0-2, 3 messages")
    assert batch.handling.counts == {"retry": 3}


@pytest.mark.parametrize("name", [3, -1, "first"])
async def test_a_batch_failure_of_what_is_not_there_fails_the_batch(name: Any) -> None:
    batch = Batch(raising(BatchFailure({name: KeyError("x")})))

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("stop", (0, 1, 2))
    assert f"names {name!r}, and the batch has 3 messages" in str(batch.stopped[0])


@pytest.mark.parametrize("errors", [{}, {0: "text"}])
def test_a_batch_failure_needs_errors(errors: Any) -> None:
    with pytest.raises(ValueError, match="must map indexes of failed messages to exceptions"):
        BatchFailure(errors)


@pytest.mark.rule_29
async def test_what_cannot_be_decoded_fails_alone() -> None:
    got: list[list[int]] = []

    async def handle(data: list[Any], messages: Messages) -> None:
        got.append(data)

    batch = Batch(handle, on_error="skip")
    batch.undecodable = {1}

    first = await batch.run()
    assert (first.kind, first.delay, first.kept) == ("retry", 0, (1, 2))
    assert batch.attempts == [1, 1], "neither was tried"
    second = await batch.run()
    assert (second.kind, second.kept) == ("retry", (1,))
    assert await batch.run() == DONE
    assert got == [[0], [2]]
    assert batch.finished == [(0, "done"), (1, "skip"), (2, "done")]


async def test_what_a_layer_leaves_out_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    got: list[list[int]] = []

    async def handle(data: list[Any], messages: Messages) -> None:
        got.append(data)

    batch = Batch(handle)

    async def only_odd(messages: Messages, call_next: CallNext) -> None:
        await call_next([message for message in messages if message.offset % 2])

    batch.put_around(only_odd)

    with caplog.at_level(logging.WARNING):
        assert await batch.run() == DONE
    assert got == [[1]]
    assert batch.finished == [(0, "skip"), (1, "done"), (2, "skip")]
    assert "a layer of wrap_consume_batch left it out" in caplog.text


async def test_indexes_are_those_of_the_list_that_the_handler_was_given() -> None:
    batch = Batch(raising(BatchFailure({0: Retry(delay=0)})))

    async def without_the_first(messages: Messages, call_next: CallNext) -> None:
        await call_next(messages[1:])

    batch.put_around(without_the_first)

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("retry", (1,))
    assert batch.finished == [(0, "skip"), (2, "done")]


@pytest.mark.d4
async def test_a_layer_that_raises_after_the_handler_fails_the_batch() -> None:
    batch = Batch(raising())

    async def broken(messages: Messages, call_next: CallNext) -> None:
        await call_next(messages)
        raise RuntimeError("broken")

    batch.put_around(broken)

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("stop", (0, 1, 2))
    assert batch.tracker.state(A).watermark == 0


async def test_a_layer_may_name_messages() -> None:
    batch = Batch(raising())

    async def refuse(messages: Messages, call_next: CallNext) -> None:
        await call_next(messages[:-1])
        raise BatchFailure({messages[-1]: Retry(delay=0)})

    batch.put_around(refuse)

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("retry", (2,))
    assert batch.finished == [(0, "done"), (1, "done")]


@pytest.mark.rule_30
async def test_the_limit_is_the_batchs() -> None:
    async def slow(data: list[Any], messages: Messages) -> None:
        await asyncio.sleep(10)

    batch = Batch(slow, timeout_seconds=0.01)

    outcome = await batch.run()

    assert isinstance(outcome.error, HandlerTimeoutError)
    assert "topic[0]@0-2, 3 messages" in str(outcome.error)


async def test_a_cancelled_batch_is_not_done() -> None:
    async def slow(data: list[Any], messages: Messages) -> None:
        await asyncio.sleep(10)

    batch = Batch(slow, on_error="skip")
    task = asyncio.create_task(batch.run())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert batch.finished == []


@pytest.mark.rule_3
async def test_a_batch_of_a_partition_that_has_gone_changes_nothing() -> None:
    batch = Batch(raising())
    batch.tracker.assign([A])

    await batch.run()

    assert batch.finished == []
    assert batch.tracker.stale_completions == 3


@pytest.mark.rule_29
async def test_a_layer_that_swallows_the_failure_of_a_decoding_ends_the_message() -> None:
    """Put off like those behind it, it would come first again, at once and for ever."""
    batch = Batch(raising())
    batch.undecodable = {0}

    async def swallow(messages: Messages, call_next: CallNext) -> None:
        with contextlib.suppress(BatchFailure):
            await call_next(messages)

    batch.put_around(swallow)

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("retry", (1, 2))
    assert batch.finished == [(0, "done")]


@pytest.mark.rule_29
async def test_a_layer_that_raises_in_place_of_a_decoding_fails_the_message() -> None:
    batch = Batch(raising())
    batch.undecodable = {0}

    async def translate(messages: Messages, call_next: CallNext) -> None:
        try:
            await call_next(messages)
        except BatchFailure as failure:
            raise RuntimeError("translated") from failure

    batch.put_around(translate)

    outcome = await batch.run()

    assert (outcome.kind, outcome.kept) == ("stop", (0, 1, 2))
    assert isinstance(outcome.error, RuntimeError)
    assert batch.attempts == [2, 1, 1], "only the first was tried"


@pytest.mark.parametrize("is_left_out", [True, False])
async def test_a_layer_decides_anew_on_what_was_put_off(is_left_out: bool) -> None:
    """What it left out, or failed of, came again at once without a word, for ever."""

    async def handle(data: list[Any], messages: Messages) -> None: ...

    batch = Batch(handle, on_error="skip")
    batch.undecodable = {1}
    await batch.run()
    assert batch.finished == [(0, "done")]

    async def layer(messages: Messages, call_next: CallNext) -> None:
        if not is_left_out:
            raise ConnectionError("the database is gone")
        await call_next(messages[:1])

    batch.put_around(layer)
    await batch.run()

    assert batch.finished[1:] == [(1, "skip"), (2, "skip")]
    assert batch.fetched == []

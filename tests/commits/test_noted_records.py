"""What the notes of commits say of records, and that no record is lost by them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.consumer.attempts import Attempt
from kafkaesk_core.consumer.begun import BegunRecords
from kafkaesk_core.consumer.crashes import CrashCounter, Turn
from kafkaesk_core.consumer.notes import BUDGET, CommitNotes, Note, decode, encode
from kafkaesk_core.errors import CommitError, Defer, Retry
from kafkaesk_core.hooks import hookimpl
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.kafka.consumer import PositionsMissing
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_testing import eventually
from tests.rebalancing.test_handover import A, B, Engine, Member, polling, record


def ranges(*offsets: int) -> list[range]:
    return [range(offset, offset + 1) for offset in offsets]


class Noted(Engine):
    """An engine whose commits have notes; `stored` is what the broker got, `hangs` never end."""

    def __init__(self, *plugins: object, hangs: tuple[int, ...] = (), says_done: bool = True):
        super().__init__()
        self.now = time.time()
        self.notes = CommitNotes("group", self.tracker, says_done=says_done, clock=lambda: self.now)
        self.dispatcher.notes = self.commits._notes = self.notes
        self.dispatcher._pipelines[0].ordering = "unordered"
        self.commits._send = self._send_noted
        self.commits._timeout = 60.0
        self.stored: list[dict[TopicPartition, tuple[int, str]]] = []
        self.refusal: Any = None  # returns why the broker refuses a note
        self.hangs = hangs
        self.fails: dict[int, Exception | Retry | Defer] = {}
        self.attempts: list[tuple[int, int]] = []
        self.release.set()
        registry = Plugins()
        for plugin in plugins:
            registry.register(plugin)
        app: Any = None
        self.commits.compile(registry, app, [self.handling.subscription])
        self.rebalance.assigned(frozenset([A, B]))

    async def _handle(self, message: IncomingMessage) -> None:
        self.attempts.append((message.offset, message.attempt))
        if message.offset in self.hangs:
            await asyncio.Event().wait()
        if message.offset in self.fails:
            raise self.fails[message.offset]
        await super()._handle(message)

    async def _send_noted(
        self,
        offsets: Mapping[TopicPartition, int],
        timeout: float,
        notes: Mapping[TopicPartition, str],
    ) -> CommitResult:
        refused = {p: why for p in offsets if self.refusal and (why := self.refusal(notes, p))}
        taken = {p: (o, notes[p]) for p, o in offsets.items() if p not in refused}
        if taken:
            self.stored.append(taken)
        return CommitResult(stored=set(taken), refused=refused)

    async def commit(self) -> tuple[int, Note | None]:
        """Commit; return what the broker has for A."""
        await self.commits.commit("interval")
        return self.last

    @property
    def last(self) -> tuple[int, Note | None]:
        offset, text = next(taken[A] for taken in reversed(self.stored) if A in taken)
        return offset, decode(offset, text)

    async def finish(self, *offsets: int) -> None:
        """Handle records of A, up to those that hang or fail."""
        ending = [o for o in offsets if o not in self.hangs and o not in self.fails]
        self.take(A, *offsets)
        await eventually(lambda: set(ending) <= set(self.handled))


class NotedMember(Member):
    """Has read these notes at its assignment; its log ends at `end`."""

    def __init__(self, notes: dict[TopicPartition, tuple[int, str]], *steps: Any) -> None:
        super().__init__()
        self._steps, self._notes = list(steps), notes
        self.log_end: int | None = 1000

    @property
    def has_notes(self) -> bool:
        return bool(self._notes)

    def take_notes(self) -> Any:
        taken, self._notes = self._notes, {}
        return taken

    def high_watermark(self, partition: TopicPartition) -> int | None:
        return self.log_end

    async def poll(self, partitions: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        step = self._steps.pop(0) if self._steps else {}
        if isinstance(step, Exception):
            raise step
        return step


def fetched(*offsets: int) -> dict[TopicPartition, list[Any]]:
    return {A: [record(A, offset) for offset in offsets]}


async def read(engine: Noted, member: NotedMember, *, until: int) -> None:
    """Poll until so many records were handled, and no more come."""
    task = asyncio.create_task(polling(engine, member).run())
    await eventually(lambda: len(engine.handled) >= until)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])


# --- what is called done


class Layer:
    """Lowers, or waits."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.is_reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any) -> None:
        self.is_reached.set()
        await self.go_on.wait()
        if self.limit is not None:
            offsets = {p: min(o, self.limit) for p, o in offsets.items()}
        await call_next(offsets)


class Observer(Layer):
    stage = "observe"


@pytest.mark.parametrize(("limit", "committed"), [(10, 10), (None, 12), (13, 12)])
async def test_with_a_layer_that_decides_on_commits_nothing_above_them_is_called_done(
    limit: int | None, committed: int
) -> None:
    """It holds 13, say, until it has written it; the offset alone does not tell it."""
    engine = Noted(Layer(limit), hangs=(12,))
    await engine.finish(10, 11, 12, 13)

    assert await engine.commit() == (committed, None)


async def test_what_an_observer_of_commits_lowers_is_not_called_done() -> None:
    engine = Noted(Observer(11), hangs=(12,))
    await engine.finish(10, 11, 12, 13)

    assert await engine.commit() == (11, None)


async def test_what_is_done_while_an_observer_waits_is_left_to_the_next_commit() -> None:
    layer = Observer()
    engine = Noted(layer, hangs=(10,))
    await engine.finish(10, 11)
    layer.go_on.clear()
    committing = asyncio.create_task(engine.commit())
    await layer.is_reached.wait()

    await engine.finish(12)
    layer.go_on.set()

    assert (await committing)[1] == Note(10, {}, ranges(11))
    assert (await engine.commit())[1] == Note(10, {}, [range(11, 13)])


async def test_where_handlers_commit_by_hand_nothing_above_is_called_done() -> None:
    """A handler that has returned may still hold what it took."""
    engine = Noted(hangs=(10,), says_done=False)
    await engine.finish(10, 11)

    await engine.commits.commit("manual")

    assert engine.stored == []


# --- what is read


async def test_what_was_done_is_not_handled_again() -> None:
    engine = Noted()
    member = NotedMember({A: (10, encode(10, {}, ranges(12, 13)))}, fetched(10, 11, 12, 13, 14))

    await read(engine, member, until=3)

    assert sorted(engine.handled) == [10, 11, 14]
    assert engine.notes.counts["done_before"] == 2


@pytest.mark.parametrize("lost", [10, None])
async def test_after_a_reset_the_note_of_the_old_log_is_not_used(lost: int | None) -> None:
    """The log was truncated, or the topic was made again."""
    engine = Noted()
    text = encode(10, {3: Attempt(9)}, ranges(12, 13))
    missing = PositionsMissing({A: lost})
    member = NotedMember({A: (10, text)}, missing, {}, {}, {}, fetched(10, 11, 12, 13, 14))
    if lost is not None:
        member.positions = {A: lost}

    await read(engine, member, until=5)

    assert sorted(engine.handled) == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("first", [5, 9, 11, 12, 13])
async def test_a_seek_before_the_first_record_brings_back_what_was_done(first: int) -> None:
    engine = Noted()
    text = encode(10, {}, ranges(12, 13))
    member = NotedMember({A: (10, text)}, fetched(*range(first, 15)))

    await read(engine, member, until=15 - first)

    assert sorted(engine.handled) == list(range(first, 15))


async def test_a_seek_back_later_brings_back_what_was_done() -> None:
    engine = Noted()
    text = encode(10, {}, ranges(12, 13))
    member = NotedMember({A: (10, text)}, fetched(10, 11), fetched(*range(10, 15)))

    await read(engine, member, until=7)

    assert sorted(engine.handled) == [10, 10, 11, 11, 12, 13, 14]


@pytest.mark.parametrize(("end", "handled"), [(15, [10, 11, 12, 13, 14]), (16, [10, 11, 12, 13])])
async def test_a_note_that_ends_behind_the_log_is_not_used(end: int, handled: list[int]) -> None:
    """The log was truncated to 14, and is being written again."""
    engine = Noted()
    member = NotedMember({A: (10, encode(10, {}, ranges(14, 15)))}, fetched(*range(10, 15)))
    member.log_end = end

    await read(engine, member, until=len(handled))

    assert sorted(engine.handled) == handled


async def test_the_stored_note_is_replaced_after_a_seek_back() -> None:
    """A crash before the next commit would skip what the seek has brought back."""
    engine = Noted(hangs=(5,))
    text = encode(10, {}, ranges(12, 13))
    engine.notes.read({A: (10, text)})
    task = asyncio.create_task(
        polling(engine, NotedMember({}, fetched(10), fetched(*range(5, 8)))).run()
    )
    await eventually(lambda: {6, 7} <= set(engine.handled))

    assert await engine.commit() == (5, Note(5, {}, [range(6, 8)]))
    task.cancel()


# --- attempts


async def attempt_of(engine: Noted, offset: int = 10) -> Attempt | None:
    _, note = await engine.commit()
    return None if note is None else note.attempts.get(offset)


async def test_a_wait_is_never_longer_than_it_was_meant_to_be() -> None:
    """The clock of the process that stored it was a year ahead."""
    first, second = Noted(), Noted()
    first.fails = {10: Retry(delay=500.0)}
    first.now += 365 * 86400
    await first.finish(10)
    await eventually(lambda: first.lanes.parked(A))
    _, note = await first.commit()

    second.notes.read({A: (10, first.stored[-1][A][1])})
    second.notes.check(A, 10, None)
    second.take(A, 10)
    await eventually(lambda: second.lanes.parked(A))

    assert note == Note(10, {10: Attempt(2, ceil(first.now * 1000) + 500_000, 500_000)}, [])
    assert 400 < (second.lanes.next_retry(A) or 0) <= 500


def waiting(**minutes: float) -> str:
    """A note beside the offset 10: so many minutes are left for records of these numbers."""
    now = time.time() * 1000
    return encode(
        10,
        {
            int(name[1:]): Attempt(2, int(now + left * 60_000), int(left * 60_000))
            for name, left in minutes.items()
        },
        (),
    )


def keyed(*offsets: int, key: bytes = b"k") -> list[Any]:
    return [dataclasses.replace(record(A, offset), key=key) for offset in offsets]


@pytest.mark.rule_14
@pytest.mark.rule_31
@pytest.mark.parametrize("ordering", ["key", "partition"])
async def test_a_wait_is_not_cut_short_by_a_record_before_it_that_is_redelivered(
    ordering: Any,
) -> None:
    """The note had no room for what was done, or a layer decides on commits."""
    engine = Noted()
    engine.dispatcher._pipelines[0].ordering = ordering
    engine.notes.read({A: (10, waiting(r12=60, r14=0.0005))})
    engine.notes.check(A, 10, None)

    engine.dispatcher.take(A, keyed(10, 11, 12, 13))
    engine.dispatcher.take(A, keyed(14, 15, key=b"l"))
    handled = [10, 11, 14, 15] if ordering == "key" else [10, 11]
    await eventually(lambda: sorted(engine.handled) == handled)
    await eventually(lambda: engine.lanes.parked(A) == 6 - len(handled))

    assert 3500 < (engine.lanes.next_retry(A) or 0) <= 3600
    assert {attempt for offset, attempt in engine.attempts if offset in (12, 14)} <= {2}
    assert (await attempt_of(engine, 12) or Attempt(0)).number == 2, "and it stays noted"


@pytest.mark.rule_31
async def test_each_record_waits_its_own_time_in_a_lane() -> None:
    engine = Noted()
    engine.dispatcher._pipelines[0].ordering = "key"
    engine.notes.read({A: (10, waiting(r10=0.0005, r11=0.001, r12=60))})
    engine.notes.check(A, 10, None)

    engine.dispatcher.take(A, keyed(10, 11, 12))

    await eventually(lambda: engine.handled == [10, 11] and engine.lanes.parked(A) == 1)
    assert engine.attempts == [(10, 2), (11, 2)]


async def test_what_waits_holds_no_slot_and_no_pause_shortens_it() -> None:
    engine = Noted()
    engine.lanes._concurrency = 1
    engine.notes.read({A: (10, waiting(**{f"r{number}": 60 for number in range(11, 40)}))})
    engine.notes.check(A, 10, None)

    engine.take(A, *range(10, 45))
    engine.lanes.pause(lambda _: True)
    engine.lanes.pause(None)
    await eventually(lambda: engine.lanes.parked(A) == 29)

    assert engine.handled == [10, 40, 41, 42, 43, 44]


async def test_attempts_of_records_that_are_due_and_cannot_start_are_kept() -> None:
    """A pause, or a slot that is taken, keeps them waiting."""
    engine = Noted(hangs=(11,))
    engine.lanes._concurrency = 1
    engine.fails = {10: Retry(delay=0.0)}
    await engine.finish(10)
    await eventually(lambda: len(engine.attempts) > 2)
    engine.take(A, 11)  # it takes the slot
    await eventually(lambda: engine.attempts[-1] == (11, 1))
    attempt = len(engine.attempts)

    assert await attempt_of(engine) == Attempt(attempt)
    engine.lanes.pause(lambda _: True)
    assert await attempt_of(engine) == Attempt(attempt)


@pytest.mark.parametrize("delay", [1e12, 1e300])
async def test_a_wait_of_any_length_is_noted(delay: float) -> None:
    engine = Noted(hangs=(9,))
    engine.fails = {10: Retry(delay=delay)}
    engine.take(A, 9, 10)
    await eventually(lambda: engine.lanes.parked(A))

    assert (await attempt_of(engine) or Attempt(0)).delay_ms == 10**14


async def test_a_handover_keeps_the_attempts_of_what_it_gives_up() -> None:
    engine = Noted()
    engine.fails = {10: Retry(delay=60), 12: Defer(60)}
    await engine.finish(10, 11, 12)
    await eventually(lambda: engine.lanes.parked(A) == 2)

    await engine.rebalance.revoked(frozenset([A, B]), is_lost=False)

    due = ceil(engine.now * 1000) + 60_000
    assert engine.last == (
        10,
        Note(10, {10: Attempt(2, due, 60_000), 12: Attempt(1, due, 60_000)}, ranges(11)),
    )


async def test_a_record_that_waits_is_noted_once() -> None:
    engine = Noted()
    engine.fails = {10: Retry(delay=600.0)}
    await engine.finish(10)
    await eventually(lambda: engine.lanes.parked(A))

    for _ in range(10):
        await engine.commit()
        engine.now += 5

    assert len(engine.stored) == 1


async def test_attempts_of_records_that_are_done_are_forgotten() -> None:
    engine = Noted(hangs=(9,))
    engine.fails = {10: Retry(delay=0.0)}
    engine.take(A, 9, 10)
    await eventually(lambda: len(engine.attempts) > 3)
    del engine.fails[10]
    await eventually(lambda: engine.handled == [10])

    assert await engine.commit() == (9, Note(9, {}, ranges(10)))
    assert engine.notes.attempts(A).by_offset == {}


# --- crashes


def count_crashes(engine: Noted) -> None:
    CrashCounter(
        Turn(), engine.notes, engine.commits, engine.dispatcher._pipelines, window=60
    ).assigned()


async def test_a_handover_is_no_crash_of_what_it_cancels() -> None:
    """Three of them were a dead letter."""
    text = ""
    for _ in range(3):
        engine = Noted(hangs=(10,))
        engine.rebalance._limits = type(engine.rebalance._limits)(drain=0.05, grace=0.05, commit=1)
        count_crashes(engine)
        engine.notes.read({A: (10, text)})
        engine.notes.check(A, 10, None)
        engine.take(A, 10)
        await eventually(partial(getattr, engine, "attempts"))
        assert engine.last[1] == Note(10, {10: Attempt(2, crashes=1)}, [])  # if it ends now

        await engine.rebalance.revoked(frozenset([A, B]), is_lost=False)

        assert engine.attempts == [(10, 1)]
        assert engine.last == (10, None)
        text = engine.stored[-1][A][1]


async def begins(engine: Noted, note: str) -> tuple[int, int]:
    """Let 10 begin, and run for ever; return the attempt and the crashes that it sees."""
    engine.notes.read({A: (10, note)})
    engine.notes.check(A, 10, None)
    seen: list[tuple[int, int]] = []

    async def see(message: IncomingMessage) -> None:
        seen.append((message.attempt, message.crashes))
        await asyncio.Event().wait()

    engine.handling.compile(lambda _: see)
    engine.handling.put_around(engine.handling._around)
    engine.take(A, 10)
    await eventually(lambda: seen)
    return seen[0]


@pytest.mark.parametrize("others", [0, 2])
async def test_a_membership_that_is_lost_while_a_record_runs_is_no_crash_of_it(others: int) -> None:
    """The event loop was blocked, say: the process lives, and what it said cannot be taken back."""
    engine = Noted()
    count_crashes(engine)
    note = encode(10, {10: Attempt(1 + others, crashes=others)}, ()) if others else ""
    for _ in range(3):
        assert await begins(engine, note) == (1 + others, others)
        note = engine.stored[-1][A][1]
        assert decode(10, note) == Note(10, {10: Attempt(2 + others, crashes=1 + others)}, [])

        await engine.rebalance.revoked(frozenset([A, B]), is_lost=True)
        engine.rebalance.assigned(frozenset([A, B]))
        count_crashes(engine)
    await engine.lanes.stop(1)


async def test_a_crash_of_another_process_after_a_lost_membership_counts() -> None:
    engine = Noted()
    count_crashes(engine)
    await begins(engine, "")
    await engine.rebalance.revoked(frozenset([A, B]), is_lost=True)

    engine.rebalance.assigned(frozenset([A, B]))
    count_crashes(engine)
    seen = await begins(engine, encode(10, {10: Attempt(3, crashes=2)}, ()))

    assert seen == (2, 1)
    await engine.lanes.stop(1)


@pytest.mark.parametrize("stored", [10, 11])
def test_of_commits_without_an_answer_any_may_be_what_is_read_again(stored: int) -> None:
    """Only the last one was remembered: what was stored of the other counted as a crash."""
    begun = BegunRecords()
    begun.is_counting = True
    for offset in (10, 11):
        begun.begin(A, offset, 1, 0)
        begun.note_sent(A, begun.get(A))
        begun.end(A)
    begun.forget(A, is_gone=True)

    found = begun.corrected(A, {stored: Attempt(2, crashes=1)})

    assert found == {stored: Attempt(1)}


def test_what_a_later_commit_has_replaced_is_of_another_process_if_it_is_read_again() -> None:
    begun = BegunRecords()
    begun.is_counting = True
    for offset in (10, 11):
        begun.begin(A, offset, 1, 0)
        begun.note_sent(A, begun.get(A))
    begun.note_stored(A, begun.get(A))
    begun.forget(A, is_gone=True)

    crashed = {10: Attempt(2, crashes=1)}
    assert begun.corrected(A, crashed) == crashed
    assert begun.corrected(A, {11: Attempt(2, crashes=1)}) == {11: Attempt(1)}


async def test_a_handover_whose_commit_fails_is_no_crash_either() -> None:
    engine = Noted()
    engine.rebalance._limits = type(engine.rebalance._limits)(drain=0.02, grace=0.05, commit=1)
    count_crashes(engine)
    await begins(engine, "")
    note = engine.stored[-1][A][1]
    engine.refusal = lambda notes, p: "CoordinatorNotAvailableError"

    await engine.rebalance.revoked(frozenset([A, B]), is_lost=False)
    engine.refusal = None
    engine.rebalance.assigned(frozenset([A, B]))
    count_crashes(engine)

    assert await begins(engine, note) == (1, 0)
    await engine.lanes.stop(1)


async def test_crashes_are_counted_apart_from_retries() -> None:
    engine = Noted()
    engine.notes.read({A: (10, encode(10, {10: Attempt(7, crashes=2)}, ()))})
    engine.notes.check(A, 10, None)
    seen: list[tuple[int, int]] = []

    async def see(message: IncomingMessage) -> None:
        seen.append((message.attempt, message.crashes))
        raise Retry(delay=0.0 if len(seen) < 2 else 600.0)

    engine.handling.compile(lambda _: see)
    engine.take(A, 10)
    await eventually(lambda: len(seen) == 2)

    assert seen == [(7, 2), (8, 2)]
    assert (await attempt_of(engine) or Attempt(0))[::3] == (9, 2)


# --- size and price


def fill(engine: Noted, partitions: int, *, every: int = 2) -> list[TopicPartition]:
    """Let records above the watermark be done in so many partitions."""
    names = [TopicPartition("topic", number) for number in range(partitions)]
    engine.rebalance.assigned(frozenset(names))
    for name in names:
        epoch = engine.tracker.register(name, range(5000), 0.0)
        for offset in range(every, 5000, every):
            engine.tracker.finish(name, epoch, offset)
    return names


async def test_all_notes_of_a_commit_have_a_limit_together() -> None:
    engine = Noted()
    names = fill(engine, 300)

    await engine.commits.commit("interval")

    (taken,) = engine.stored
    sizes = [len(text) for _, text in taken.values()]
    assert len(taken) == len(names)
    assert min(sizes) == max(sizes) > 200
    assert sum(sizes) <= BUDGET


@pytest.mark.parametrize("why", ["OffsetMetadataTooLargeError", "InvalidCommitOffsetSizeError"])
async def test_what_brokers_refuse_is_committed_without_notes_and_then_with_shorter_ones(
    why: str,
) -> None:
    engine = Noted()
    (name,) = fill(engine, 1)
    engine.tracker.finish(name, engine.tracker.epoch(name) or 0, 0)
    engine.refusal = lambda notes, p: why if len(notes[p]) > 1500 else None

    await engine.commits.commit("interval")
    assert engine.stored == [{name: (1, "")}]
    await engine.commits.commit("interval")
    await engine.commits.commit("interval")

    offset, text = engine.stored[-1][name]
    assert offset == 1
    assert 900 < len(text) <= 1024
    assert engine.notes.counts["notes_refused"] == 2


@pytest.mark.rule_1
async def test_what_jumps_back_while_its_note_is_refused_is_not_committed_ahead() -> None:
    engine = Noted(hangs=(12, 2))
    await engine.finish(10, 11, 12, 13)

    def refuse(notes: Any, partition: TopicPartition) -> str:
        engine.refusal = None
        engine.rebalance.forget([A])
        engine.tracker.start_at(A, 2)
        engine.take(A, 2, 3)
        return "OffsetMetadataTooLargeError"

    engine.refusal = refuse
    await engine.commits.commit("interval")
    await eventually(lambda: 3 in engine.handled)
    await engine.commits.commit("interval")

    assert [taken[A][0] for taken in engine.stored if A in taken] == [2, 2]


async def test_brokers_that_refuse_each_note_are_sent_none() -> None:
    engine = Noted()
    fill(engine, 1)
    engine.refusal = lambda notes, p: "OffsetMetadataTooLargeError" if notes[p] else None

    for _ in range(8):
        await engine.commits.commit("interval")

    assert not engine.notes.is_on
    assert engine.notes.counts["notes_refused"] == 5  # 4096 bytes, 2048, 1024, 512, 256


async def test_a_partition_that_is_refused_keeps_no_other_from_shorter_notes() -> None:
    """The other one was not committed for as long as that refusal lasted."""
    engine = Noted()
    unauthorized, noted = fill(engine, 2)
    for name in (unauthorized, noted):
        engine.tracker.finish(name, engine.tracker.epoch(name) or 0, 0)

    def refuse(notes: Any, partition: TopicPartition) -> str | None:
        if partition == unauthorized:
            return "TopicAuthorizationFailedError"
        return "OffsetMetadataTooLargeError" if len(notes[partition]) > 1500 else None

    engine.refusal = refuse
    for _ in range(4):
        with pytest.raises(CommitError, match="TopicAuthorizationFailed"):
            await engine.commits.commit("interval")

    assert [sorted(taken) for taken in engine.stored] == [[noted]], "once, with a shorter note"


async def test_a_refusal_for_another_reason_is_not_about_notes() -> None:
    engine = Noted()
    fill(engine, 1)
    engine.refusal = lambda notes, p: "GroupAuthorizationFailedError"

    with pytest.raises(CommitError, match="GroupAuthorizationFailed"):
        await engine.commits.commit("interval")

    assert engine.stored == []
    assert engine.notes.counts["notes_refused"] == 0


async def test_what_has_not_changed_is_not_looked_at_again() -> None:
    engine = Noted()
    names = fill(engine, 50, every=1)  # all but the first
    looked: list[TopicPartition] = []
    find = engine.tracker.done_ranges

    def done_ranges(partition: TopicPartition, most: int) -> list[range]:
        looked.append(partition)
        assert most * len(names) <= 50_000
        return find(partition, most)

    engine.tracker.done_ranges = done_ranges  # type: ignore[method-assign]
    await engine.commits.commit("interval")
    assert sorted(looked) == names
    looked.clear()

    await engine.commits.commit("interval")

    assert looked == []


async def test_what_was_not_read_yet_stays_in_the_note_as_it_is() -> None:
    engine = Noted(hangs=(10,))
    engine.notes.read({A: (10, "kafkaesk1 10 d=20-1000000")})
    engine.notes.check(A, 10, None)
    await engine.finish(10, 11)

    assert (await engine.commit())[1] == Note(10, {}, [range(11, 12), range(30, 1_000_011)])


# --- lives and deaths


class Broker:
    """What a broker has stored of A, and which records were handled; some commits get lost."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.log = sorted(chance.sample(range(200), 100))  # with gaps
        self.done: set[int] = set()
        self.stored = (0, "")


class Life(Noted):
    """One process of many, which ends with a handover or without."""

    def __init__(self, broker: Broker, ordering: Any) -> None:
        super().__init__()
        self.broker = broker
        self.dispatcher._pipelines[0].ordering = ordering
        self.rebalance.assigned(frozenset([A]))
        self.notes.read({A: broker.stored})
        self.todo = [offset for offset in broker.log if offset >= broker.stored[0]]

    async def _send_noted(self, offsets: Any, timeout: float, notes: Any) -> CommitResult:
        broker = self.broker
        await asyncio.sleep(broker.chance.choice([0, 0.001]))
        if self.is_lost:
            return CommitResult(is_lost=True)
        fate = broker.chance.random()
        if fate < 0.1:
            raise CommitError("no answer, not stored")
        assert {o for o in broker.log if o < offsets[A]} <= broker.done, "passes an open one"
        broker.stored = (offsets[A], notes[A])
        if fate < 0.2:
            raise CommitError("no answer, stored")
        return CommitResult(stored=set(offsets))

    async def _handle(self, message: IncomingMessage) -> None:
        chance = self.broker.chance
        await asyncio.sleep(chance.choice([0, 0.001, 0.004]))
        fate = chance.random()
        if fate < 0.2:
            raise Retry(delay=chance.choice([0.0, 0.003, 0.02]))
        if fate < 0.25:
            raise Defer(0.003)
        if self.is_lost:
            raise RuntimeError("it has ended")
        self.broker.done.add(message.offset)

    async def step(self) -> None:
        chance = self.broker.chance
        size = chance.randint(1, 20)
        taken, self.todo = self.todo[:size], self.todo[size:]
        if taken:
            self.notes.check(A, taken[0], 200)
            self.take(A, *taken)
        await asyncio.sleep(chance.choice([0, 0.001, 0.005]))
        self.lanes.pause((lambda _: True) if chance.random() < 0.1 else None)
        if chance.random() < 0.5:
            with contextlib.suppress(CommitError):
                await self.commits.commit("interval")

    async def end(self, *, is_lost: bool) -> None:
        self.is_lost = is_lost
        await self.rebalance.revoked(frozenset([A]), is_lost=is_lost)
        await self.lanes.stop(1.0)


@pytest.mark.rule_10
@pytest.mark.parametrize("ordering", ["unordered", "partition"])
@pytest.mark.parametrize("seed", range(6))
async def test_no_crash_handover_or_lost_commit_loses_a_record(seed: int, ordering: Any) -> None:
    broker = Broker(random.Random(seed))
    for _ in range(7):
        life = Life(broker, ordering)
        for _ in range(broker.chance.randint(1, 12)):
            await life.step()
        await life.end(is_lost=broker.chance.random() < 0.5)

    last = Life(broker, ordering)
    while last.todo:
        await last.step()
    last.lanes.pause(None)
    assert await last.lanes.wait_idle([A], 20)
    await last.end(is_lost=False)

    assert broker.done == set(broker.log)

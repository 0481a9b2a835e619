"""Lanes keep order inside and let nothing wait for another lane (rules 13 to 16, 18, 30)."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Hashable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kafkaesk_core.offsets import DONE, HandlerResult
from kafkaesk_core.scheduler import UNORDERED, Lanes
from kafkaesk_testing import eventually

Item = tuple[str, Hashable, int]  # group, lane key, position
Entry = tuple[int, Item]


def in_turn(
    handle: Callable[[Item], Awaitable[HandlerResult]],
) -> Callable[[Iterable[Entry]], Awaitable[HandlerResult]]:
    """What lanes run, from what handles one item."""

    async def run(items: Iterable[Entry]) -> HandlerResult:
        for _, item in items:
            outcome = await handle(item)
            if not outcome.is_terminal:
                return outcome
        return DONE

    return run


class Handler:
    """Handles items when told to; notes what starts and what ends."""

    def __init__(self) -> None:
        self.waiting: dict[Item, asyncio.Future[HandlerResult]] = {}
        self.started: list[Item] = []
        self.finished: list[Item] = []
        self.cancelled: list[Item] = []
        self.most_at_once = 0
        self.is_instant = False

    async def __call__(self, item: Item) -> HandlerResult:
        assert item not in self.waiting
        self.started.append(item)
        if self.is_instant:
            self.finished.append(item)
            return DONE
        self.waiting[item] = asyncio.get_running_loop().create_future()
        self.most_at_once = max(self.most_at_once, len(self.waiting))
        try:
            outcome = await self.waiting[item]
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            del self.waiting[item]
        if outcome.is_terminal:
            self.finished.append(item)
        return outcome

    def end(self, item: Item, outcome: HandlerResult = DONE) -> None:
        self.waiting[item].set_result(outcome)


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def submit(lanes: Lanes[Entry], *items: Item) -> None:
    for item in items:
        lanes.submit(item[0], item[1], [(item[2], item)])


@pytest.mark.rule_13
async def test_a_lane_runs_one_item_at_a_time_in_order() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    submit(lanes, ("p", None, 1), ("p", None, 2))

    await settle()
    assert handler.started == [("p", None, 1)]
    handler.end(("p", None, 1))
    await settle()

    assert handler.started == [("p", None, 1), ("p", None, 2)]
    await lanes.stop(1)


@pytest.mark.rule_16
@pytest.mark.u14
async def test_a_slow_lane_delays_no_other() -> None:
    """There is no batch barrier."""
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=2)
    submit(lanes, ("p", "slow", 1), *(("p", "fast", n) for n in range(2, 10)))

    for position in range(2, 10):
        await settle()
        handler.end(("p", "fast", position))
    await settle()

    assert [item[2] for item in handler.finished] == list(range(2, 10))
    assert ("p", "slow", 1) in handler.waiting
    await lanes.stop(1)


@pytest.mark.rule_16
async def test_concurrency_is_a_hard_cap_and_lanes_take_turns() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=1, lane_slice=0)
    submit(lanes, ("p", "a", 1), ("p", "a", 2), ("p", "b", 3))

    for _ in range(3):
        await settle()
        handler.end(next(iter(handler.waiting)))
    await settle()

    assert handler.most_at_once == 1
    assert [item[2] for item in handler.finished] == [1, 3, 2]


@pytest.mark.rule_16
@pytest.mark.d3
async def test_a_retried_item_holds_its_lane_but_no_slot() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=1, lane_slice=0)
    submit(lanes, ("p", "a", 1), ("p", "a", 2), ("p", "b", 3))
    await settle()

    handler.end(("p", "a", 1), HandlerResult("retry", delay=0.02))
    await settle()
    assert ("p", "b", 3) in handler.waiting
    handler.end(("p", "b", 3))
    await eventually(lambda: ("p", "a", 1) in handler.waiting)
    assert ("p", "a", 2) not in handler.started
    handler.end(("p", "a", 1))
    await settle()

    assert ("p", "a", 2) in handler.waiting
    await lanes.stop(1)


async def test_what_waits_for_a_retry_is_counted_until_its_turn() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    submit(lanes, ("p", "a", 1), ("p", "a", 2), ("p", "b", 3))
    await settle()

    assert (lanes.parked("p"), lanes.next_retry("p")) == (0, None)
    handler.end(("p", "a", 1), HandlerResult("retry", delay=0.1))
    await settle()
    submit(lanes, ("p", "a", 4))
    assert lanes.parked("p") == 3
    due = lanes.next_retry("p")
    assert due is not None
    assert 0 < due <= 0.1
    await eventually(lambda: ("p", "a", 1) in handler.waiting)

    assert (lanes.parked("p"), lanes.next_retry("p")) == (0, None)
    assert lanes.ages().keys() == {"p"}
    await lanes.stop(1)


@pytest.mark.parametrize("ends", ["drain", "cancel", "discard"])
async def test_what_is_given_up_waits_no_longer(ends: str) -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    submit(lanes, ("p", "a", 1), ("p", "a", 2))
    await settle()
    handler.end(("p", "a", 1), HandlerResult("retry", delay=0.02))
    await settle()
    assert lanes.parked("p") == 2

    getattr(lanes, ends)(["p"])

    assert (lanes.parked("p"), lanes.size("p")) == (0, 0)
    await asyncio.sleep(0.03)
    assert (lanes.parked("p"), lanes.size("p")) == (0, 0)
    assert ("p", "a", 2) not in handler.started


@pytest.mark.rule_18
async def test_a_drain_starts_nothing_above_the_highest_started_item() -> None:
    """5 was started, so 3 behind its slow key still runs, and 7 does not."""
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=2)
    submit(lanes, ("p", "a", 1), ("p", "a", 3), ("p", "b", 5), ("p", "b", 7))
    await settle()

    lanes.drain(["p"])
    handler.end(("p", "b", 5))
    handler.end(("p", "a", 1))
    await settle()

    assert list(handler.waiting) == [("p", "a", 3)]
    handler.end(("p", "a", 3))
    assert await lanes.wait_idle(["p"], timeout=1)
    assert ("p", "b", 7) not in handler.started


@pytest.mark.d24
async def test_a_drain_gives_up_what_waits_for_a_retry() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    submit(lanes, ("p", None, 1), ("p", None, 2))
    await settle()
    handler.end(("p", None, 1), HandlerResult("retry", delay=60))
    await settle()

    lanes.drain(["p"])

    assert await lanes.wait_idle(["p"], timeout=1)
    assert handler.finished == []


@pytest.mark.rule_18
async def test_who_answers_a_cancellation_with_a_retry_is_not_tried_again() -> None:
    started: list[Item] = []

    async def retrying(item: Item) -> HandlerResult:
        started.append(item)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return HandlerResult("retry", delay=0)
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(retrying))
    submit(lanes, ("p", "a", 1), ("p", "a", 2))
    await settle()

    lanes.cancel(["p"])
    assert await lanes.wait_idle(["p"], timeout=1)
    await asyncio.sleep(0.01)

    assert started == [("p", "a", 1)]
    assert (lanes.parked("p"), lanes.size("p")) == (0, 0)


@pytest.mark.rule_13
async def test_a_group_that_comes_back_waits_for_what_still_runs_of_it() -> None:
    """Rule 13 across a lost assignment: never two records of one partition at once."""
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    submit(lanes, ("p", None, 1))
    await settle()

    assert lanes.discard(["p"]) == 1
    submit(lanes, ("p", None, 2))
    await settle()
    assert handler.started == [("p", None, 1)]
    handler.end(("p", None, 1))
    await settle()

    assert handler.started == [("p", None, 1), ("p", None, 2)]
    await lanes.stop(1)


@pytest.mark.f30
@pytest.mark.rule_21
@pytest.mark.rule_30
async def test_an_item_that_ignores_its_cancellation_can_be_abandoned() -> None:
    """What waited for it goes on, and its slot is free."""
    stubborn = asyncio.get_running_loop().create_future()
    started: list[int] = []

    async def ignore(item: Item) -> HandlerResult:
        started.append(item[2])
        while item[2] == 1 and not stubborn.done():
            try:
                await asyncio.shield(stubborn)
            except asyncio.CancelledError:
                continue
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(ignore), concurrency=1)
    submit(lanes, ("p", None, 1))
    await settle()
    lanes.cancel(["p"])
    lanes.discard(["p"])
    submit(lanes, ("p", None, 2))
    await settle()
    assert started == [1]

    assert lanes.abandon(["p"]) == 1
    await settle()

    assert started == [1, 2]
    stubborn.set_result(None)
    assert await lanes.stop(1) == 0


@pytest.mark.f30
@pytest.mark.rule_30
async def test_an_overdue_item_loses_its_slot_and_its_lane_goes_on_when_it_ends() -> None:
    """Stuck, while others continue."""
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=1, lane_slice=0)
    submit(lanes, ("p", "a", 1), ("p", "a", 2), ("p", "b", 3))
    await settle()

    assert lanes.overdue(0.0) == [(1, ("p", "a", 1))]
    assert lanes.overdue(0.0) == []
    await settle()

    assert lanes.stuck == 1
    handler.end(("p", "b", 3))
    handler.end(("p", "a", 1))
    await settle()
    assert ("p", "a", 2) in handler.waiting
    assert lanes.stuck == 0
    await lanes.stop(1)


@pytest.mark.d21
async def test_a_handler_that_never_suspends_lets_others_run() -> None:
    """A worker yields after 10 ms."""
    ticks = 0

    async def busy(_: Item) -> HandlerResult:
        end = asyncio.get_running_loop().time() + 0.002
        while asyncio.get_running_loop().time() < end:
            pass
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(busy))
    submit(lanes, *(("p", None, n) for n in range(50)))
    while lanes.size("p"):
        ticks += 1
        await asyncio.sleep(0)

    assert ticks >= 5


@pytest.mark.rule_18
async def test_a_drain_from_inside_a_handler_ends_the_turn_after_its_item() -> None:
    """For handlers that never suspend."""
    handled: list[int] = []

    async def drain(item: Item) -> HandlerResult:
        handled.append(item[2])
        if item[2] == 2:
            lanes.drain(["p"])
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(drain))
    lanes.submit("p", None, [(n, ("p", None, n)) for n in range(5)])

    assert await lanes.wait_idle(["p"], 1)
    assert handled == [0, 1, 2]
    assert await lanes.stop(1) == 0


@pytest.mark.rule_15
async def test_lanes_that_share_a_slot_take_turns_item_by_item() -> None:
    """No lane waits for the end of another, also if no handler ever suspends."""
    handled: list[str] = []

    async def note(item: Item) -> HandlerResult:
        handled.append(item[0])
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(note), concurrency=1, lane_slice=0)
    for group in ("p", "q"):
        lanes.submit(group, None, [(n, (group, None, n)) for n in range(50)])

    assert await lanes.wait_idle(["p", "q"], 1)
    assert handled == ["p", "q"] * 50
    assert await lanes.stop(1) == 0


@pytest.mark.rule_15
@pytest.mark.parametrize("key", [None, UNORDERED])
async def test_a_long_lane_of_quick_items_lets_others_have_their_turns(key: Any) -> None:
    handled: list[str] = []

    async def note(item: Item) -> HandlerResult:
        handled.append(item[0])
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(note), concurrency=1)
    lanes.submit("p", key, [(n, ("p", key, n)) for n in range(20_000)])
    lanes.submit("q", key, [(0, ("q", key, 0))])

    assert await lanes.wait_idle(["p", "q"], 10)
    assert handled.index("q") < 15_000
    assert (len(handled), lanes.size("p"), lanes.size("q")) == (20_001, 0, 0)
    assert await lanes.stop(1) == 0


@pytest.mark.parametrize("key", [None, UNORDERED])
async def test_a_worker_stays_in_a_lane_of_quick_items(key: Any) -> None:
    """Each move costs half as much as all the other work on a record."""
    handled: list[str] = []

    async def note(item: Item) -> HandlerResult:
        handled.append(item[0])
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(note), concurrency=1, lane_slice=60)
    for group in ("p", "q"):
        lanes.submit(group, key, [(n, (group, key, n)) for n in range(1000)])

    assert await lanes.wait_idle(["p", "q"], 10)
    moves = sum(one != other for one, other in pairwise(handled))
    assert (len(handled), moves < 500) == (2000, True)
    assert await lanes.stop(1) == 0


@pytest.mark.rule_15
async def test_items_in_no_order_run_beside_one_another_and_wait_for_none() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=3)
    items = [("p", UNORDERED, n) for n in range(6)]
    lanes.submit("p", UNORDERED, [(item[2], item) for item in items])
    await settle()

    assert list(handler.waiting) == items[:3]
    handler.end(items[1], HandlerResult("retry", delay=60))
    handler.end(items[2])
    await settle()

    assert list(handler.waiting) == [items[0], *items[3:5]]
    assert (lanes.size("p"), lanes.parked("p")) == (5, 1)
    await lanes.stop(1)


@pytest.mark.rule_15
async def test_an_item_in_no_order_holds_up_none_of_a_key_that_was_handled_before_it() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=2)
    handler.is_instant = True
    submit(lanes, ("p", "a", 1), ("p", UNORDERED, 2), ("p", UNORDERED, 3))
    lanes.submit("q", "b", [(1, ("q", "b", 1))])
    await settle()
    handler.is_instant = False
    submit(lanes, ("p", UNORDERED, 4))
    await settle()
    submit(lanes, ("p", "a", 5))
    await settle()

    assert list(handler.waiting) == [("p", UNORDERED, 4), ("p", "a", 5)]
    await lanes.stop(1)


@pytest.mark.rule_18
async def test_a_drain_starts_nothing_in_no_order_above_the_highest_started_item() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=1)
    submit(lanes, ("p", "a", 5))
    await settle()
    submit(lanes, *(("p", UNORDERED, n) for n in (3, 4, 6, 7)))
    lanes.drain(["p"])
    for position in (5, 3, 4):
        [waiting] = handler.waiting
        assert waiting[2] == position
        handler.end(waiting)
        await settle()

    assert await lanes.wait_idle(["p"], 1)
    assert handler.waiting == {}
    await lanes.stop(1)


async def test_handlers_that_wait_for_nothing_need_few_workers() -> None:
    tasks = set()

    async def note(_: Item) -> HandlerResult:
        tasks.add(asyncio.current_task())
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(note), concurrency=100)
    submit(lanes, *(("p", n % 50, n) for n in range(100)))
    lanes.submit("p", UNORDERED, [(n, ("p", UNORDERED, n)) for n in range(100, 200)])

    assert await lanes.wait_idle(["p"], 1)
    assert len(tasks) <= 20  # usually one; more if the machine is busy for more than a slice
    await lanes.stop(1)


async def test_a_worker_that_is_cancelled_before_it_begins_is_replaced() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    before = asyncio.all_tasks()
    submit(lanes, ("p", "a", 1))

    for task in asyncio.all_tasks() - before:
        task.cancel()
    await settle()

    assert list(handler.waiting) == [("p", "a", 1)]
    await lanes.stop(1)


async def test_a_worker_without_items_waits_for_the_next_ones() -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def note(_: Item) -> HandlerResult:
        tasks.append(asyncio.current_task())
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(note))
    for n in range(5):
        submit(lanes, ("p", n, n))
        assert await lanes.wait_idle(["p"], 1)
        await settle()

    assert len(set(tasks)) == 1
    assert not lanes.is_run_by(tasks[0])
    assert (lanes.running, lanes.stuck) == (0, 0)
    await lanes.stop(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("is_called", [False, True])
async def test_a_waiting_worker_that_is_cancelled_is_replaced(is_called: bool) -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler), concurrency=1)
    before = asyncio.all_tasks()
    handler.is_instant = True
    submit(lanes, ("p", "a", 1))
    await settle()

    (waiting,) = asyncio.all_tasks() - before
    handler.is_instant = False
    if is_called:
        submit(lanes, ("p", "a", 2))
    waiting.cancel()
    if not is_called:
        submit(lanes, ("p", "a", 2))
    await settle()

    assert list(handler.waiting) == [("p", "a", 2)]
    handler.end(("p", "a", 2))
    await settle()
    submit(lanes, ("p", "a", 3))
    await settle()
    assert list(handler.waiting) == [("p", "a", 3)]
    await lanes.stop(1)


async def test_a_worker_whose_cancellation_a_handler_has_swallowed_takes_no_later_items() -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def swallow(_: Item) -> HandlerResult:
        tasks.append(asyncio.current_task())
        if len(tasks) == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        return DONE

    lanes: Lanes[Entry] = Lanes(in_turn(swallow))
    submit(lanes, ("p", "a", 1))
    await settle()
    assert tasks[0] is not None
    tasks[0].cancel()
    await settle()
    submit(lanes, ("p", "a", 2))
    await settle()

    assert len(set(tasks)) == 2
    await lanes.stop(1)


@pytest.mark.rule_35
async def test_stop_leaves_no_task() -> None:
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    submit(lanes, ("p", 1, 1), ("p", 2, 2))

    assert await lanes.stop(1) == 0

    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.rule_18
async def test_a_drain_of_a_paused_group_starts_nothing_behind_what_runs() -> None:
    """Also below the highest started item: the pause holds it back, and the drain gives it up."""
    handler = Handler()
    lanes: Lanes[Entry] = Lanes(in_turn(handler))
    submit(lanes, ("p", None, 1), ("p", None, 2), ("p", "a", 3))
    await settle()
    lanes.pause({"p"}.__contains__)
    lanes.drain(["p"])
    for item in list(handler.waiting):
        handler.end(item)
    await settle()

    assert [item[2] for item in handler.finished] == [1, 3]
    assert (len(handler.started), lanes.size("p")) == (2, 0)
    assert await lanes.stop(1) == 0


@pytest.mark.parametrize("stays", [0.0, math.inf])  # what is between them depends on the time
@pytest.mark.parametrize("concurrency", [None, 1, 3])
def test_any_interleaving_keeps_order_and_cap(concurrency: int | None, stays: float) -> None:
    class Machine(LanesMachine):
        limit = concurrency
        lane_slice = stays

    state = Machine.TestCase
    state.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
    state().runTest()


class LanesMachine(RuleBasedStateMachine):
    """Submits, ends, retries, pauses, drains, cancels and closes in any order."""

    limit: int | None = None
    lane_slice = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.handler = Handler()
        self.lanes: Lanes[Entry] = self.loop.run_until_complete(self._make())
        self.position = 0
        self.draining: dict[str, int] = {}
        self.paused: dict[str, int] = {}  # how many items had started by then

    async def _make(self) -> Lanes[Entry]:
        return Lanes(in_turn(self.handler), concurrency=self.limit, lane_slice=self.lane_slice)

    def _settle(self) -> None:
        self.loop.run_until_complete(settle())

    @rule(
        group=st.sampled_from("pq"),
        keys=st.lists(st.sampled_from([None, "a", "b", UNORDERED]), min_size=1, max_size=5),
    )
    def submit(self, group: str, keys: list[Hashable]) -> None:
        if group in self.draining:
            return
        items = [(group, key, self.position + n) for n, key in enumerate(keys, 1)]
        self.position += len(keys)
        self.loop.run_until_complete(self._submit(items))
        self._settle()

    async def _submit(self, items: list[Item]) -> None:
        submit(self.lanes, *items)

    @rule(key=st.sampled_from([None, "a", UNORDERED]), is_called_first=st.booleans())
    def cancel_who_waits_for_items(self, key: Hashable, is_called_first: bool) -> None:
        if "p" in self.draining:
            return
        self.position += 1
        items = [("p", key, self.position)]
        waiting = [t for t in asyncio.all_tasks(self.loop) if not self.lanes.is_run_by(t)]
        if is_called_first:
            self.loop.run_until_complete(self._cancel_before(waiting, items))
        else:
            for task in waiting:
                task.cancel()
            self.loop.run_until_complete(self._submit(items))
        self._settle()

    async def _cancel_before(self, tasks: list[asyncio.Task[Any]], items: list[Item]) -> None:
        submit(self.lanes, *items)
        for task in tasks:
            task.cancel()

    @rule(is_instant=st.booleans())
    def handle_what_begins_now_without_a_suspension(self, is_instant: bool) -> None:
        self.handler.is_instant = is_instant

    @precondition(lambda self: self.handler.waiting)
    @rule(data=st.data(), is_retry=st.booleans())
    def end(self, data: st.DataObject, is_retry: bool) -> None:
        item = data.draw(st.sampled_from(list(self.handler.waiting)))
        self.handler.end(item, HandlerResult("retry", delay=0.0) if is_retry else DONE)
        self._settle()

    def _started(self, group: str) -> int:
        return sum(item[0] == group for item in self.handler.started)

    @rule(groups=st.sets(st.sampled_from("pq")))
    def pause(self, groups: set[str]) -> None:
        self.loop.run_until_complete(self._pause(groups))
        self.paused = {
            group: self.paused.get(group, self._started(group))
            for group in groups - self.draining.keys()
        }
        self._settle()

    async def _pause(self, groups: set[str]) -> None:
        self.lanes.pause(groups.__contains__ if groups else None)

    @invariant()
    def a_paused_group_starts_nothing(self) -> None:
        assert self.paused == {group: self._started(group) for group in self.paused}

    @rule(group=st.sampled_from("pq"))
    def drain(self, group: str) -> None:
        if group in self.draining:
            return
        highest = max((i[2] for i in self.handler.started if i[0] == group), default=-1)
        self.lanes.drain([group])
        self.draining[group] = highest
        self._settle()

    @precondition(lambda self: self.draining)
    @rule(data=st.data(), is_cancelled=st.booleans())
    def close(self, data: st.DataObject, is_cancelled: bool) -> None:
        group = data.draw(st.sampled_from(sorted(self.draining)))
        if is_cancelled:
            self.lanes.cancel([group])
        self.lanes.discard([group])
        del self.draining[group]
        self._settle()

    @invariant()
    def one_item_per_lane(self) -> None:
        lanes = [item[:2] for item in self.handler.waiting if item[1] is not UNORDERED]
        assert len(lanes) == len(set(lanes))

    @invariant()
    def no_more_than_the_cap(self) -> None:
        if self.limit is not None:
            assert self.handler.most_at_once <= self.limit

    @invariant()
    def a_lane_finishes_in_order(self) -> None:
        for lane in {item[:2] for item in self.handler.finished if item[1] is not UNORDERED}:
            positions = [item[2] for item in self.handler.finished if item[:2] == lane]
            assert positions == sorted(positions)

    @invariant()
    def a_draining_group_starts_nothing_above(self) -> None:
        for group, highest in self.draining.items():
            started = [item[2] for item in self.handler.started if item[0] == group]
            assert max(started, default=-1) <= max(highest, -1)

    @invariant()
    def nothing_ready_waits_for_a_free_slot(self) -> None:
        if self.limit is None or len(self.handler.waiting) < self.limit:
            assert not self.lanes._ready

    @invariant()
    def what_waits_or_runs_is_counted(self) -> None:
        for group in "pq":
            found = self.lanes._groups.get(group)
            queued = 0 if found is None else sum(len(one.queue) for one in found.lanes.values())
            assert self.lanes.size(group) == queued

    def teardown(self) -> None:
        assert self.loop.run_until_complete(self.lanes.stop(1)) == 0
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()

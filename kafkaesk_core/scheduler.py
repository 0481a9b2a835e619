"""Schedules handlers: which items may run concurrently, and in which order. No Kafka.

A *group* is a set of items that are added and discarded together: the items of a partition. A
*lane* is a sequence of a group's items that run in order, one at a time: all items, those of one
key, or a single item. Unordered items wait in a pool, and each gets a lane when its turn comes.
Workers are tasks that take turns on the ready lanes. No lane waits for another lane.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator, Sequence
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Generic

from .lanes import UNORDERED, Lane, LaneGroup, Pool, Single, T
from .offsets import DONE, HandlerResult
from .tasks import is_cancelled

__all__ = ["UNORDERED", "BatchLanes", "Lanes"]


SLICE = 0.010
"""Seconds that a worker may run without suspending before it lets other tasks run."""

LANE_SLICE = 0.0005
"""Seconds that a worker may stay in a lane while others are ready: a move costs half as much as the
other work on a record."""

_TURN = contextvars.ContextVar[object | None]("kafkaesk_turn", default=None)
"""Stands for what a worker handles in one go; tasks that are started there inherit it."""


class Lanes(Generic[T]):
    """Runs items in lanes, at most `concurrency` at once (None: one per lane).

    `run` handles items of one lane in turn: it requests the next item when one is finished, and
    returns the result of the first unfinished item, else DONE. It may be cancelled; any other
    exception is a defect and goes to `report_failure`. An item that waits for its retry stays at
    the head of its lane, and the lane holds no slot meanwhile. While other lanes are ready, a
    worker stays in a lane for `lane_slice` seconds, or for one item.
    """

    def __init__(
        self,
        run: Callable[[Any], Awaitable[HandlerResult]],
        *,
        concurrency: int | None = None,
        lane_slice: float = LANE_SLICE,
        report_failure: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._report_failure = report_failure
        self._concurrency = concurrency
        self._lane_slice = lane_slice
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._groups: dict[Hashable, LaneGroup[T]] = {}
        self._ready: deque[Lane[T]] = deque()
        self._workers: set[Worker[T]] = set()
        self._idle: Worker[T] | None = None  # has no slot; waits for the next lane
        self._is_stopped = False
        self._slots_used = 0
        self._starting = 0  # workers that have not taken a lane yet
        self._orphans: Counter[Hashable] = Counter()  # running items of discarded groups
        self._behind_orphans: dict[Hashable, list[Lane[T]]] = {}
        self._pause: Callable[[Hashable], bool] | None = None
        self._waiters: list[tuple[Collection[Hashable], asyncio.Future[None]]] = []

    @property
    def running(self) -> int:
        """The number of running items, including those of discarded groups."""
        return sum(worker.lane is not None for worker in self._workers)

    def is_run_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task runs items."""
        return any(worker.task is task for worker in self._workers)

    def runs_caller(self) -> bool:
        """Whether the caller handles an item that still runs, itself or in a task started there."""
        turn = _TURN.get()
        return turn is not None and any(worker.turn is turn for worker in self._workers)

    def restart_clock(self, task: asyncio.Task[Any] | None) -> None:
        """Restart the clock of the item that this task runs."""
        for worker in self._workers:
            if worker.task is task:
                worker.since = monotonic()

    @property
    def stuck(self) -> int:
        """The number of items that run without a slot because they ignored their cancellation."""
        return sum(not worker.has_slot for worker in self._workers)

    @property
    def running_items(self) -> list[T]:
        """The running items; of a batch, the first item."""
        lanes = [worker.lane for worker in self._workers if worker.lane is not None]
        return [lane.queue[0] for lane in lanes if lane.queue]

    def size(self, group: Hashable) -> int:
        """Return the number of waiting and running items of a group."""
        return self._groups[group].size if group in self._groups else 0

    def parked(self, group: Hashable) -> int:
        """Return the number of a group's items that wait for a retry, or behind such an item."""
        return self._groups[group].parked if group in self._groups else 0

    def next_retry(self, group: Hashable) -> float | None:
        """Return the seconds until the next retry of a group; None if no item waits for a retry."""
        lanes = self._groups[group].lanes.values() if group in self._groups else ()
        due = [lane.timer.when() for lane in lanes if lane.state == "parked" and lane.timer]
        return max(min(due) - self._loop.time(), 0.0) if due else None

    def ages(self) -> dict[Hashable, float]:
        """Return, by group, the seconds for which the longest-running item has run."""
        now, ages = monotonic(), dict[Hashable, float]()
        for worker in self._workers:
            if worker.lane is not None and worker.lane.group.phase != "discarded":
                key = worker.lane.group.key
                ages[key] = max(now - worker.since, ages.get(key, 0.0))
        return ages

    # --- items in

    def submit(
        self,
        group: Hashable,
        key: Hashable,
        items: Sequence[T],
    ) -> None:
        """Queue items in one lane; positions are ascending within a lane."""
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = LaneGroup(group)
            if self.is_paused(group):
                found.phase = "paused"
        lane = found.lanes.get(key)
        if lane is None:
            lane = found.lanes[key] = (Pool if key is UNORDERED else Lane)(found, key)
        if lane.state == "held":
            return
        found.size += len(items)
        if lane.state == "parked":
            found.parked += len(items)
        was_empty = not lane.queue
        lane.queue.extend(items)
        if lane.state in ("idle", "gathering"):
            self._arrived(lane)
        elif was_empty and lane.state == "ready":  # a pool that was emptied before its turn
            self._dispatch()

    def _arrived(self, lane: Lane[T]) -> None:
        """Schedule an idle lane that received items."""
        self._make_ready(lane)

    def _make_ready(self, lane: Lane[T]) -> None:
        lane.state = "ready"
        if self._orphans and self._orphans[lane.group.key]:
            self._behind_orphans.setdefault(lane.group.key, []).append(lane)
            return
        (self._ready if lane.group.phase != "paused" else lane.group.waiting).append(lane)
        self._dispatch()

    def _queue_lane(self, lane: Lane[T]) -> None:
        """Let a lane wait for a slot, or for the end of the pause."""
        (self._ready if lane.group.phase != "paused" else lane.group.waiting).append(lane)

    def _dispatch(self, more: int = 0) -> None:
        """Start workers for the lanes that are ready, and for `more` items in a pool.

        At most as many workers start at once as are already working. Each worker lets others start
        when it begins: by then, handlers that never wait have ended, and need no second worker.
        """
        busy = len(self._workers) - self._starting
        count = min(len(self._ready) + more, max(busy, 1)) - self._starting
        if self._concurrency is not None:
            count = min(count, self._concurrency - self._slots_used)
        for _ in range(count):
            self._start_worker()

    def _start_worker(self) -> None:
        self._starting += 1
        self._slots_used += 1
        idle, self._idle = self._idle, None
        if idle is not None and idle.wake():
            self._workers.add(idle)
            return
        worker: Worker[T] = Worker()
        self._workers.add(worker)
        task = self._loop.create_task(self._work(worker), context=self._context.copy())
        worker.task = task
        # Not a `finally` in the task: a task that is cancelled before its first step runs
        # none of its code.
        task.add_done_callback(partial(self._leave, worker))

    def _next_lane(self) -> Lane[T] | None:
        """Return the next lane in turn, or the pool."""
        while self._ready:
            lane = self._ready.popleft()
            if lane.queue and lane.state == "ready":
                return lane
            if not lane.queue:
                lane.rest()
        return None

    # --- the worker

    async def _work(self, worker: Worker[T]) -> None:
        while await self._serve_lanes(worker) and self._idle is None:
            # A task for each record of a slow stream would cost as much as the record.
            self._idle = worker
            self._workers.discard(worker)
            self._slots_used -= 1
            await worker.rest(self._loop)

    async def _serve_lanes(self, worker: Worker[T]) -> bool:
        """Serve lanes until none is ready; return whether the worker may wait for the next one."""
        worker.slice_end = monotonic() + SLICE
        worker.has_begun = True
        self._starting -= 1
        while worker.has_slot and not worker.is_cancelled:
            found = self._next_lane()
            if found is None:
                return not (self._is_stopped or is_cancelled())
            self._take(found, worker)
            if self._ready:
                self._dispatch(len(found.queue) if isinstance(found, Pool) else 0)
            worker.turn = turn = object()
            _TURN.set(turn)
            result = await self._serve(worker)
            lane, worker.lane, worker.turn = worker.lane, None, None
            assert lane is not None
            self._settle(lane, result, worker)
            if monotonic() > worker.slice_end:
                await asyncio.sleep(0)
                worker.slice_end = monotonic() + SLICE
        return False

    def _take(self, lane: Lane[T], worker: Worker[T]) -> Lane[T]:
        """Give a worker a lane, or a new lane for the first item of a pool."""
        if isinstance(lane, Pool):
            pool, lane = lane, lane.first(worker.lane)
            if pool.queue:
                self._ready.append(pool)
            else:
                pool.rest()
        lane.state = "running"
        worker.lane = lane
        return lane

    def _serve(self, worker: Worker[T]) -> Awaitable[HandlerResult]:
        """Run the head of the worker's lane, and items behind it in the same turn."""
        return self._run(self._turn(worker))

    def _turn(self, worker: Worker[T]) -> Iterator[T]:
        """Yield items of the worker's lane and of other ready lanes, as their turns come.

        The last item stays at the head of the last lane.
        """
        lane = worker.lane
        now = monotonic()
        lane_end = now + self._lane_slice
        while lane is not None:
            group, queue = lane.group, lane.queue
            item = queue[0]
            if item[0] > group.top:
                group.top = item[0]
            worker.since = now
            yield item
            now = monotonic()
            if group.phase != "open" or now > worker.slice_end:
                return
            if worker.is_cancelled or not worker.has_slot:
                return
            if now < lane_end or len(self._ready) <= self._starting:
                if len(queue) > 1:
                    queue.popleft()
                    group.size -= 1
                    continue
                if isinstance(lane, Single) and lane.refill():
                    group.size -= 1
                    continue
            lane = self._move_on(lane, worker)
            lane_end = now + self._lane_slice

    def _move_on(self, lane: Lane[T], worker: Worker[T]) -> Lane[T] | None:
        """Leave a lane whose head is finished; return the next lane, or None."""
        found = self._next_lane()
        if found is None:
            if len(lane.queue) == 1:
                return None
            found = lane
        lane.queue.popleft()
        lane.group.size -= 1
        if found is not lane:
            if lane.queue:
                lane.state = "ready"
                self._ready.append(lane)
            else:
                lane.rest()
            lane = self._take(found, worker)
        if self._waiters:
            self._wake_waiters()
        return lane

    def _settle(self, lane: Lane[T], result: HandlerResult, worker: Worker[T]) -> None:
        group = lane.group
        if group.phase == "discarded":
            self._release_orphan(group, worker)
        elif result is DONE or result.is_terminal:
            lane.queue.popleft()
            group.size -= 1
            if lane.queue:
                lane.state = "ready"
                (self._ready if group.phase != "paused" else group.waiting).append(lane)
            else:
                lane.rest()
        elif result.is_parked and group.phase in ("open", "paused"):
            lane.park(self._loop.call_later(result.delay, self._unpark, lane))
        else:
            lane.give_up()
        if self._waiters:
            self._wake_waiters()

    def _unpark(self, lane: Lane[T]) -> None:
        lane.unpark()
        self._make_ready(lane)

    def _leave(self, worker: Worker[T], task: asyncio.Task[None]) -> None:
        """Clean up after a worker's task; drop the item that it was running."""
        self._workers.discard(worker)
        if self._idle is worker:
            self._idle = None
        self._starting -= not worker.has_begun
        lane, worker.lane = worker.lane, None
        if lane is not None:
            lane.give_up()
            if lane.group.phase == "discarded":
                self._release_orphan(lane.group, worker)
        self._release_slot(worker)
        self._dispatch()
        if self._waiters:
            self._wake_waiters()
        if (error := worker.failure_of(task, is_amid=lane is not None)) is not None:
            self._report_failure(error)

    def _release_slot(self, worker: Worker[T]) -> None:
        if worker.has_slot:
            worker.has_slot = False
            self._slots_used -= 1
            self._dispatch()

    def _release_orphan(self, group: LaneGroup[T], worker: Worker[T]) -> None:
        """Count the end of an orphaned item, and start the lanes that waited for it."""
        if worker.is_abandoned:
            return
        self._orphans[group.key] -= 1
        if not self._orphans[group.key]:
            del self._orphans[group.key]
            for lane in self._behind_orphans.pop(group.key, ()):
                self._queue_lane(lane)
            self._dispatch()

    # --- pauses

    def is_paused(self, group: Hashable) -> bool:
        """Whether a group is paused."""
        return self._pause is not None and self._pause(group)

    def pause(self, is_paused: Callable[[Hashable], bool] | None) -> None:
        """Pause the present and later groups for which this is true; None pauses no group.

        Running items finish. A drain drops the items that a pause holds back.
        """
        self._pause = is_paused
        for group in self._groups.values():
            if group.phase not in ("open", "paused"):
                continue
            waiting, group.waiting = group.waiting, []
            group.phase = "paused" if self.is_paused(group.key) else "open"
            for lane in waiting:
                self._queue_lane(lane)
        ready, self._ready = self._ready, deque()
        for lane in ready:
            self._queue_lane(lane)
        self._dispatch()

    # --- groups out

    def drain(self, groups: Collection[Hashable]) -> None:
        """Start nothing above the highest started position of each group.

        Items below that position still run, so that no finished item is above the watermark. Items
        that wait for a retry, or for the end of a pause, are dropped with the items behind them.
        """
        for group in self._found(groups):
            is_paused = group.phase == "paused"
            group.phase = "draining"
            held_back, group.waiting = set(group.waiting), []
            for lane in group.lanes.values():
                if lane.state == "parked" or lane in held_back:
                    lane.hold()
                else:
                    lane.drop(above=-1 if is_paused else group.top)
        self._wake_waiters()

    def cancel(self, groups: Collection[Hashable]) -> None:
        """Cancel the running items of these groups, and start no others."""
        for group in self._found(groups):
            group.phase = "draining"
            group.top = -1
            for lane in group.lanes.values():
                lane.drop()
        for worker in self._workers:
            if worker.lane is not None and worker.lane.group.key in groups:
                worker.cancel()
        self._wake_waiters()

    def discard(self, groups: Collection[Hashable]) -> int:
        """Forget these groups; return the number of their items that still run as orphans.

        Until the orphans end or are abandoned, nothing starts in groups of the same names.
        """
        orphans = 0
        for group in self._found(groups):
            del self._groups[group.key]
            self._behind_orphans.pop(group.key, None)
            group.phase = "discarded"
            for lane in group.lanes.values():
                is_running = lane.state == "running"
                lane.hold()
                if is_running:
                    self._orphans[group.key] += 1
                    orphans += 1
        return orphans

    def abandon(self, groups: Collection[Hashable]) -> int:
        """Stop waiting for orphaned items, which ignore their cancellation."""
        abandoned = 0
        for worker in list(self._workers):
            lane = worker.lane
            if lane is None or lane.group.phase != "discarded" or lane.group.key not in groups:
                continue
            if not worker.is_abandoned:
                self._release_orphan(lane.group, worker)
                worker.is_abandoned = True
                abandoned += 1
                self._release_slot(worker)
        return abandoned

    def overdue(self, seconds: float) -> list[T]:
        """Return each item that has run for longer than this, once; its worker loses its slot."""
        limit = monotonic() - seconds
        late = [w for w in self._workers if w.lane and w.has_slot and w.since < limit]
        items = [worker.lane.queue[0] for worker in late if worker.lane and worker.lane.queue]
        for worker in late:
            self._release_slot(worker)
        return items

    async def wait_idle(self, groups: Collection[Hashable], timeout: float) -> bool:
        """Wait until no item of these groups waits or runs; return False if that takes too long."""
        if self._is_idle(groups):
            return True
        waiter: asyncio.Future[None] = self._loop.create_future()
        entry = (groups, waiter)
        self._waiters.append(entry)
        try:
            await asyncio.wait([waiter], timeout=max(timeout, 0))
            return waiter.done()
        finally:
            waiter.cancel()
            self._waiters.remove(entry)

    def _is_idle(self, groups: Collection[Hashable]) -> bool:
        return not any(group.size for group in self._found(groups))

    def _wake_waiters(self) -> None:
        for groups, waiter in self._waiters:
            if not waiter.done() and self._is_idle(groups):
                waiter.set_result(None)

    def _found(self, groups: Collection[Hashable]) -> list[LaneGroup[T]]:
        return [self._groups[key] for key in groups if key in self._groups]

    async def stop(self, grace: float) -> int:
        """Cancel everything; wait up to `grace` seconds; return the number of remaining tasks."""
        self._is_stopped = True
        self.discard(list(self._groups))
        workers, self._idle = [*self._workers, *filter(None, [self._idle])], None
        for worker in workers:
            worker.cancel()
        tasks = [worker.task for worker in workers if worker.task is not None]
        if tasks:
            _, remaining = await asyncio.wait(tasks, timeout=grace)
            return len(remaining)
        return 0


class BatchLanes(Lanes[T]):
    """Runs the items gathered in a lane, up to `size` at a time.

    An idle lane waits for `size` items, but at most `timeout` seconds. A busy lane continues at
    once with the items that arrived meanwhile, so batches grow with the load. The unfinished items
    of a batch stay at the head of the lane.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[HandlerResult]],
        *,
        size: int,
        timeout: float,
        concurrency: int | None = None,
        report_failure: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        super().__init__(run, concurrency=concurrency, report_failure=report_failure)
        self._size = size
        self._timeout = timeout

    def _arrived(self, lane: Lane[T]) -> None:
        if len(lane.queue) >= self._size:
            if lane.timer is not None:
                lane.timer.cancel()
            self._unpark(lane)
        elif lane.timer is None:
            lane.state = "gathering"
            lane.timer = self._loop.call_later(self._timeout, self._unpark, lane)

    def _serve(self, worker: Worker[T]) -> Awaitable[HandlerResult]:
        lane = worker.lane
        assert lane is not None
        lane.taken = min(len(lane.queue), self._size)
        items = list(islice(lane.queue, lane.taken))
        lane.group.top = max(lane.group.top, items[-1][0])
        worker.since = monotonic()
        return self._run(items)

    def _settle(self, lane: Lane[T], result: HandlerResult, worker: Worker[T]) -> None:
        if lane.group.phase != "discarded":
            self._drop_finished(lane, result)
        super()._settle(lane, result, worker)

    @staticmethod
    def _drop_finished(lane: Lane[T], result: HandlerResult) -> None:
        """Keep the unfinished items at the head; if all are finished, keep one in their place."""
        taken = [lane.queue.popleft() for _ in range(lane.taken)]
        kept = taken[-1:] if result.is_terminal else [taken[index] for index in result.kept]
        lane.queue.extendleft(reversed(kept))
        lane.group.size -= lane.taken - len(kept)
        lane.taken = 1


class Worker(Generic[T]):
    """One task that serves one lane at a time."""

    __slots__ = (
        "_call",
        "has_begun",
        "has_slot",
        "is_abandoned",
        "is_cancelled",
        "lane",
        "since",
        "slice_end",
        "task",
        "turn",
    )

    def __init__(self) -> None:
        self.lane: Lane[T] | None = None  # while an item runs
        self.turn: object | None = None  # as long
        self.since = 0.0  # when it was started
        self.slice_end = 0.0  # until when it may run without letting other tasks run
        self.has_begun = False
        self.has_slot = True
        self.is_abandoned = False
        self.is_cancelled = False
        self.task: asyncio.Task[None] | None = None
        self._call: asyncio.Future[None] | None = None  # while it rests

    async def rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the slot back, and wait until `wake` is called."""
        self.has_slot = False
        self._call = loop.create_future()
        await self._call

    def wake(self) -> bool:
        """Let a resting worker begin again, with a slot; return False if its task was cancelled."""
        if self._call is None or self._call.done():
            return False
        self._call.set_result(None)
        self.has_slot, self.has_begun = True, False
        return True

    def cancel(self) -> None:
        """Cancel the running item, and start no other."""
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()

    def failure_of(self, task: asyncio.Task[None], *, is_amid: bool) -> BaseException | None:
        """Return the error of the task; our own cancellation, or one between items, is no error."""
        if not task.cancelled():
            return task.exception()
        if self.is_cancelled or not is_amid:
            return None
        return RuntimeError("a handler did not end: its task was cancelled, and not by us")

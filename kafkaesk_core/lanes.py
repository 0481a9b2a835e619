"""The state of the lanes that the scheduler serves: their items, their groups, pools of items."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Any, Generic, Literal, TypeVar

__all__ = ["UNORDERED", "Lane", "LaneGroup", "Pool", "Single", "T"]

T = TypeVar("T", bound="tuple[Any, ...]")
"""An item: a tuple that begins with its position."""

UNORDERED: Any = object()
"""The key of unordered items, which may run concurrently."""


class Lane(Generic[T]):
    """Items in order; the head stays in the queue while it runs or waits for a retry.

    `taken` is the number of items in the head: one, or those of a batch.
    """

    __slots__ = ("group", "key", "queue", "state", "taken", "timer")

    def __init__(self, group: LaneGroup[T], key: Hashable) -> None:
        self.group = group
        self.key = key
        self.queue: deque[T] = deque()
        self.state: Literal["idle", "gathering", "ready", "running", "parked", "held"] = "idle"
        self.taken = 1
        self.timer: asyncio.TimerHandle | None = None

    def rest(self) -> None:
        """Leave the group until the next item arrives, unless the lane is held."""
        if self.state != "held":
            self.state = "idle"
            self.group.lanes.pop(self.key, None)

    def drop(self, *, above: int = -1) -> None:
        """Drop the items at positions above `above`, except a running head."""
        keep = self.taken if self.state == "running" else 0
        before = len(self.queue)
        while len(self.queue) > keep and self.queue[-1][0] > above:
            self.queue.pop()
        dropped = before - len(self.queue)
        self.group.size -= dropped
        if self.state == "parked":
            self.group.parked -= dropped

    def park(self, timer: asyncio.TimerHandle) -> None:
        """Let the head wait for its retry, and the items behind it wait for the head."""
        self.state = "parked"
        self.timer = timer
        self.group.parked += len(self.queue)

    def unpark(self) -> None:
        """End the wait for a retry, or for more items."""
        self.timer = None
        if self.state == "parked":
            self.group.parked -= len(self.queue)

    def give_up(self) -> None:
        """Hold the lane after its head has ended unfinished."""
        self.state = "idle"
        self.hold()

    def hold(self) -> None:
        """Start no more items; a running head stays in the queue."""
        self.drop()
        self.state = "held"
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Pool(Lane[T]):
    """Unordered items; each moves to its own lane when its turn comes."""

    __slots__ = ()

    def first(self, used: Lane[T] | None) -> Lane[T]:
        """Move the first item to a lane: an idle lane from earlier, or a new one."""
        lane = used
        if not isinstance(lane, Single) or lane.state != "idle" or lane.group is not self.group:
            lane = Single(self.group, object())
        self.group.lanes[lane.key] = lane
        lane.queue.append(self.queue.popleft())
        return lane


class Single(Lane[T]):
    """The lane of one item from a pool."""

    __slots__ = ()

    def refill(self) -> bool:
        """Replace a finished item with the pool's next item; return False if there is none.

        A pool that becomes empty stays in the queue of ready lanes until its turn comes.
        """
        pool = self.group.lanes.get(UNORDERED)
        if pool is None or not pool.queue:
            return False
        self.queue[0] = pool.queue.popleft()
        return True


class LaneGroup(Generic[T]):
    """The lanes of one partition.

    `size` counts the waiting and running items; `parked` counts the items that wait for a retry,
    and the items behind them. `top` is the highest started position. `waiting` has the lanes that
    are ready while the group is paused.
    """

    __slots__ = ("key", "lanes", "parked", "phase", "size", "top", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.lanes: dict[Hashable, Lane[T]] = {}
        self.size = 0
        self.parked = 0
        self.top = -1
        self.phase: Literal["open", "paused", "draining", "discarded"] = "open"
        self.waiting: list[Lane[T]] = []

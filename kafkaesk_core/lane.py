"""What lanes are made of: lanes in groups, and the workers that take turns on them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, Literal, TypeVar

__all__ = ["Group", "Lane", "Worker"]

T = TypeVar("T")


class Lane(Generic[T]):
    """Items in their order; the head stays in the queue while it runs or waits for a retry.

    `taken` is how many items the head is: one, or a batch.
    """

    __slots__ = ("group", "key", "queue", "state", "taken", "timer")

    def __init__(self, group: Group[T], key: Hashable) -> None:
        self.group = group
        self.key = key
        self.queue: deque[tuple[int, T]] = deque()
        self.state: Literal["idle", "gathering", "ready", "running", "parked", "held"] = "idle"
        self.taken = 1
        self.timer: asyncio.TimerHandle | None = None

    def rest(self) -> None:
        """Be forgotten until the next item comes, unless held."""
        if self.state != "held":
            self.state = "idle"
            self.group.lanes.pop(self.key, None)

    def drop(self, *, above: int = -1) -> None:
        """Forget the waiting items at positions above `above`; a running head stays."""
        keep = self.taken if self.state == "running" else 0
        before = len(self.queue)
        while len(self.queue) > keep and self.queue[-1][0] > above:
            self.queue.pop()
        dropped = before - len(self.queue)
        self.group.size -= dropped
        if self.state == "parked":
            self.group.parked -= dropped

    def park(self, timer: asyncio.TimerHandle) -> None:
        """Let the head wait for its retry, and what is behind it too."""
        self.state = "parked"
        self.timer = timer
        self.group.parked += len(self.queue)

    def unpark(self) -> None:
        """The time of waiting is over, for a retry or for more items."""
        self.timer = None
        if self.state == "parked":
            self.group.parked -= len(self.queue)

    def give_up(self) -> None:
        """The head has ended and is not finished with; start nothing more here."""
        self.state = "idle"
        self.hold()

    def hold(self) -> None:
        """Start nothing more here; a running head stays in the queue."""
        self.drop()
        self.state = "held"
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Group(Generic[T]):
    """The lanes of one partition; `size` counts items waiting or running, `top` was started.

    `parked` counts those of them that wait for a retry, or behind one that does.
    """

    __slots__ = ("key", "lanes", "parked", "phase", "size", "top")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.lanes: dict[Hashable, Lane[T]] = {}
        self.size = 0
        self.parked = 0
        self.top = -1
        self.phase: Literal["open", "draining", "closed"] = "open"


class Worker(Generic[T]):
    """One task, on one lane at a time."""

    __slots__ = ("has_slot", "is_abandoned", "is_cancelled", "lane", "since", "slice_end", "task")

    def __init__(self) -> None:
        self.lane: Lane[T] | None = None  # while an item runs
        self.since = 0.0  # when that was started
        self.slice_end = 0.0  # until when it may go on without letting others run
        self.has_slot = True
        self.is_abandoned = False
        self.is_cancelled = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """End what runs; start nothing more."""
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()

    def failure_of(self, task: asyncio.Task[None], *, is_amid: bool) -> BaseException | None:
        """What its task failed of; to be cancelled by us, or between two items, is no failure."""
        if not task.cancelled():
            return task.exception()
        if self.is_cancelled or not is_amid:
            return None
        return RuntimeError("a handler did not end: its task was cancelled, and not by us")

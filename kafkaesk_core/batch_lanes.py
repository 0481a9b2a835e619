"""Lanes whose handler takes several items at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from time import monotonic
from typing import TypeVar

from .lane import Lane, Worker
from .lanes import Lanes
from .outcome import Outcome

__all__ = ["BatchLanes"]

T = TypeVar("T")


class BatchLanes(Lanes[T]):
    """Runs what a lane has gathered, up to `size` items at a time.

    An idle lane waits for `size` items, `timeout` seconds at most. One that was busy goes on at
    once with what has come in meanwhile, so batches grow with the load. Of a batch that is not
    finished with, the items that the outcome keeps stay at the head of the lane.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Outcome]],
        *,
        size: int,
        timeout: float,
        concurrency: int | None = None,
        failed: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        super().__init__(run, concurrency=concurrency, failed=failed)
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

    def _serve(self, lane: Lane[T], worker: Worker[T]) -> Awaitable[Outcome]:
        lane.taken = min(len(lane.queue), self._size)
        entries = list(islice(lane.queue, lane.taken))
        lane.group.top = max(lane.group.top, entries[-1][0])
        worker.since = monotonic()
        return self._run([item for _, item in entries])

    def _settle(self, lane: Lane[T], outcome: Outcome, worker: Worker[T]) -> None:
        if lane.group.phase != "closed":
            self._drop_finished(lane, outcome)
        super()._settle(lane, outcome, worker)

    @staticmethod
    def _drop_finished(lane: Lane[T], outcome: Outcome) -> None:
        """Leave at the head what is not finished with, or one item that stands for all."""
        taken = [lane.queue.popleft() for _ in range(lane.taken)]
        kept = taken[-1:] if outcome.is_terminal else [taken[index] for index in outcome.kept]
        lane.queue.extendleft(reversed(kept))
        lane.group.size -= lane.taken - len(kept)
        lane.taken = 1

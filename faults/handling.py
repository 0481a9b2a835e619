"""Handles a record, for every library."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path

from .journal import Journal
from .workload import Order, Task

__all__ = ["Handling", "OrderFailedError", "RetryRequestedError"]


class OrderFailedError(Exception):
    """The record requests a failure of its handling."""


class RetryRequestedError(Exception):
    """The record requests another attempt."""


class Handling:
    """Handles records as they request, and logs begin and end in the journal."""

    def __init__(self, task: Task, journal: Journal) -> None:
        self._journal = journal
        self._begun = f"{task.journal.rpartition('/')[0]}/{task.topic}"
        self._range = task.workload.handling
        self._retried = task.workload.retried
        self._random = random.Random(task.seed)

    async def handle(self, value: bytes, partition: str, offset: int, attempt: int = 1) -> None:
        """Handle one record.

        Raises:
            OrderFailedError: the record requests it.
            RetryRequestedError: the record requests it, or chance does; never at the second
                attempt.
        """
        order = Order.decode(value)
        self._journal.write("begin", order.id, partition, offset)
        try:
            await self._do(order, attempt)
        except BaseException:
            self._journal.write("broken", order.id, partition, offset)
            raise
        self._journal.write("end", order.id, partition, offset)

    async def _do(self, order: Order, attempt: int) -> None:
        seconds = self._random.uniform(*self._range)
        what, _, number = order.do.partition(":")
        if what == "block" and self._is_first(order):
            time.sleep(float(number))  # noqa: ASYNC251 - that is the fault
        elif what in ("sleep", "stubborn", "fail"):
            seconds = float(number)
        if what == "stubborn":
            await _sleep_whatever_happens(seconds)
        elif seconds:
            await asyncio.sleep(seconds)
        if what == "fail" and self._is_first(order):
            raise OrderFailedError(f"order {order.id} fails, this once")
        if what == "die":
            raise OrderFailedError(f"order {order.id} fails, always")
        if attempt == 1 and (what == "retry" or self._random.random() < self._retried):
            raise RetryRequestedError

    def _is_first(self, order: Order) -> bool:
        """Whether no member has begun the record before: a repeated block breaks the group."""
        try:
            Path(f"{self._begun}-{order.id}.begun").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


async def _sleep_whatever_happens(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left)

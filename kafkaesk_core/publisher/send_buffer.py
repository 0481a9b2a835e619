"""Room for what was published and is not acknowledged, and waiting for it in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kafkaesk_core.delivery import copy_exception

__all__ = ["SendBuffer", "WaitQueue"]


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    admitted: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class WaitQueue:
    """Callers that wait, in the order of their arrival.

    A caller that finds the queue not empty must join it, even if there is room: a waiter that was
    admitted but has not run yet is still in the queue, so that nobody overtakes it.
    """

    __slots__ = ("_give_back", "waiting")

    def __init__(self, give_back: Callable[[int], None] = lambda _: None) -> None:
        self._give_back = give_back
        self.waiting: deque[_Waiter] = deque()

    def __len__(self) -> int:
        return len(self.waiting)

    async def wait(self, size: int, timeout: float) -> None:
        """Wait to be admitted.

        Raises:
            TimeoutError: that took longer than `timeout` seconds.
            Exception: what `refuse` was given.
        """
        waiter = _Waiter(size)
        self.waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter.admitted
        except BaseException:
            if _is_admitted(waiter):
                self._give_back(size)
            raise
        finally:
            self.waiting.remove(waiter)

    def admit(self, may_enter: Callable[[int], bool] = lambda _: True) -> None:
        """Admit from the front until one may not enter; asked with the size it came with."""
        for waiter in self.waiting:
            if waiter.admitted.done():
                continue
            if not may_enter(waiter.size):
                return
            waiter.admitted.set_result(None)

    def refuse(self, error: Exception) -> None:
        """Raise this error in every waiter that was not admitted."""
        for waiter in self.waiting:
            if not waiter.admitted.done():
                waiter.admitted.set_exception(copy_exception(error))


class SendBuffer:
    """Room for what was published and is not acknowledged, in bytes; first come, first served.

    One message larger than all the room may enter when it is empty.
    """

    __slots__ = ("limit", "queue", "used", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.queue = WaitQueue(self.release)
        self.waiting = self.queue.waiting  # asked for each message

    def take(self, size: int) -> bool:
        """Take room if there is some now and nobody waits for it; say whether."""
        if self.waiting or (self.used and self.used + size > self.limit):
            return False
        self.used += size
        return True

    async def enter(self, size: int, timeout: float) -> None:
        """Take room, waiting for it if need be.

        Raises:
            TimeoutError: there was none within `timeout` seconds.
        """
        if not self.take(size):
            await self.queue.wait(size, timeout)

    def release(self, size: int) -> None:
        """Give room back."""
        self.used -= size
        if self.queue:
            self.queue.admit(self._admit)

    def _admit(self, size: int) -> bool:
        if self.used and self.used + size > self.limit:
            return False
        self.used += size
        return True


def _is_admitted(waiter: _Waiter) -> bool:
    future = waiter.admitted
    return future.done() and not future.cancelled() and future.exception() is None

"""The room for unacknowledged messages, and the queue of callers that wait for room."""

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
    """Waiting callers, in the order of arrival.

    A caller must join a queue that is not empty, even if there is room. A waiter that was admitted
    but has not run yet is still in the queue, so no other caller overtakes it.
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
            Exception: the error that was passed to `refuse`.
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
        """Admit waiters from the front until one does not fit."""
        for waiter in self.waiting:
            if waiter.admitted.done():
                continue
            if not may_enter(waiter.size):
                return
            waiter.admitted.set_result(None)

    def refuse(self, error: Exception) -> None:
        """Raise this error in every waiting caller that was not admitted."""
        for waiter in self.waiting:
            if not waiter.admitted.done():
                waiter.admitted.set_exception(copy_exception(error))


class SendBuffer:
    """Room for unacknowledged messages, in bytes; first come, first served.

    A message larger than the whole buffer may enter while the buffer is empty.
    """

    __slots__ = ("accepts", "is_free", "limit", "queue", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.accepts = False
        """Whether the publisher takes new messages; false once it stops."""
        self.is_free = False
        """Whether it takes them, and no caller waits; read for each message."""
        self.queue = WaitQueue(self.release)

    def open(self) -> None:
        """Take new messages from now on."""
        self.accepts = True
        self._update()

    def close(self) -> None:
        """Take no new messages; those that wait are still admitted."""
        self.accepts = False
        self._update()

    def _update(self) -> None:
        self.is_free = self.accepts and not self.queue

    def take(self, size: int) -> bool:
        """Take room if there is enough and no caller waits; return whether it was taken."""
        if self.queue or (self.used and self.used + size > self.limit):
            return False
        self.used += size
        return True

    async def enter(self, size: int, timeout: float) -> None:
        """Take room; wait for it if necessary.

        Raises:
            TimeoutError: there was no room within `timeout` seconds.
        """
        if self.take(size):
            return
        self.is_free = False
        try:
            await self.queue.wait(size, timeout)
        finally:
            self._update()

    def release(self, size: int) -> None:
        """Return room to the buffer."""
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

"""The worker: from the buffer to the application's publisher, and what became of each line."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Protocol

from kafkaesk_core import (
    Delivery,
    DeliveryFailedError,
    MessageTooLargeError,
    NotRunningError,
)

from .buffer import Buffer, Entry
from .context import SILENCED
from .line import SCHEMA, enveloped, shortened_line
from .losses import Losses
from .options import QueueOptions

__all__ = ["Publishes", "Worker"]

_PAUSE_SECONDS = 0.02  # between two looks at the buffer: one wake-up, however many lines
_NOT_OPEN_SECONDS = 0.05
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 0.5, 30.0
_SMALL_BYTES = 10_000  # what a line is cut down to if the topic takes no larger ones


class Publishes(Protocol):
    """What is needed of the application."""

    async def publish_internal(
        self,
        stream_id: str,
        data: bytes,
        *,
        schema: str,
        key: bytes | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Publish past all plugins; NotRunningError while it does not run."""


class Worker:
    """One run of shipping, on the application's event loop.

    It runs in an empty context in which nothing that is logged is shipped: else a line about
    publishing would be published in turn, and what a handler has in its context variables would
    stay with all lines to come.
    """

    def __init__(
        self, app: Publishes, buffer: Buffer, losses: Losses, options: QueueOptions
    ) -> None:
        self._app = app
        self._buffer = buffer
        self._losses = losses
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._context = Context()
        self._context.run(SILENCED.set, True)
        self._wake = asyncio.Event()
        self._wake.set()  # there may be lines already
        self._in_flight: deque[tuple[Delivery, Entry]] = deque()
        self._landed = asyncio.Event()
        self._is_watching = False
        self._backoff = _FIRST_BACKOFF_SECONDS
        self._retry_at = 0.0
        self._is_refused = False
        self._telling: asyncio.TimerHandle | None = None
        self._task = self._start(self._run())
        buffer.loop_thread = threading.get_ident()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._loop.create_task(work, context=self._context)

    @property
    def is_running(self) -> bool:
        """Whether it takes from the buffer."""
        return not self._task.done() and not self._loop.is_closed()

    def wake(self) -> None:
        """Have it look at the buffer; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop is closed: the lines wait for the next run
            return

    async def drain(self, timeout: float) -> list[Entry]:
        """Stop, but ship first what there is, for at most so many seconds.

        Returns what was not answered by then: it is lost, as far as we know.
        """
        self._stop()
        draining = self._start(self._drain())
        try:
            await asyncio.wait([draining], timeout=timeout)
        finally:
            draining.cancel()
            await asyncio.wait([draining])
            left = self._abandon()
        return left

    def _stop(self) -> None:
        self._buffer.loop_thread = None
        self._task.cancel()
        if self._telling is not None:
            self._telling.cancel()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._buffer.has_nothing_left():
                await self._rest()
                await self._ship()
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _rest(self) -> None:
        """Wait until what failed may be tried again."""
        if (pause := self._retry_at - self._loop.time()) > 0:
            await asyncio.sleep(pause)

    async def _drain(self) -> None:
        await asyncio.wait([self._task])
        while True:
            if len(self._buffer) and not await self._ship():
                if self._is_refused:  # an application that ends opens no more
                    return
                await asyncio.sleep(_NOT_OPEN_SECONDS)
            if not self._in_flight and not len(self._buffer):
                return
            if self._in_flight:
                await self._next_landing()

    # --- out

    async def _ship(self) -> bool:
        """Hand over what is in the buffer; False if that does not work now."""
        self._is_refused = False
        while entries := self._buffer.take(self._options.batch_size):
            while entries:
                try:
                    await self._hand_over(entries)
                except NotRunningError:
                    self._is_refused = True
                    self._buffer.put_back(entries, "queue_full")
                    self._retry_at = self._loop.time() + _NOT_OPEN_SECONDS
                    return False
                except MessageTooLargeError as error:
                    self._cut(entries.pop(0), error)
                except (TypeError, ValueError) as error:  # this one never will do
                    del entries[0]
                    self._losses.trouble = str(error)
                    self._buffer.lost(1, "delivery_failed")
                except Exception as error:  # whatever the way to the broker is hindered by
                    self._buffer.put_back(entries, "queue_full")
                    self._back_off(error)
                    return False
            await asyncio.sleep(0)  # others have their turn, and the batches are sealed
        return True

    async def _hand_over(self, entries: list[Entry]) -> None:
        """Give entries to the publisher, and take them off the list; room in flight permitting."""
        publish, in_flight = self._app.publish_internal, self._in_flight
        done = 0
        try:
            for entry in entries:
                if len(in_flight) >= self._options.max_in_flight:
                    await self._next_landing()
                line, stream, key, timestamp_ms = entry
                delivery = await publish(
                    stream, line, schema=SCHEMA, key=key, timestamp_ms=timestamp_ms
                )
                in_flight.append((delivery, entry))
                done += 1
        except asyncio.CancelledError:
            self._buffer.put_back(entries[done:], "queue_full")
            raise
        finally:
            del entries[:done]
            self._watch()

    def _cut(self, entry: Entry, error: Exception) -> None:
        """The broker takes no message of this size: try a short one, once."""
        line, stream, key, timestamp_ms = entry
        short = shortened_line(line, _SMALL_BYTES)
        if short is None:
            self._losses.trouble = str(error)
            self._buffer.lost(1, "too_large")
        else:
            self._buffer.put_back([(short, stream, key, timestamp_ms)], "too_large")

    def _back_off(self, error: BaseException) -> None:
        self._losses.hindered(str(error) or type(error).__name__, len(self._buffer))
        self._retry_at = self._loop.time() + self._backoff * random.uniform(0.8, 1.2)
        self._backoff = min(2 * self._backoff, _LONGEST_BACKOFF_SECONDS)

    # --- outcomes

    async def _next_landing(self) -> None:
        """Wait until a batch of those in flight was answered."""
        self._watch()
        self._landed.clear()
        await self._landed.wait()

    def _watch(self) -> None:
        """Look at the oldest in flight when it has its outcome: one callback for many lines."""
        if self._in_flight and not self._is_watching:
            self._is_watching = True
            delivery = self._in_flight[0][0]
            delivery.add_done_callback(self._land, context=self._context)

    def _land(self, _: Delivery) -> None:
        """Settle what is done, from the oldest on."""
        self._is_watching = False
        in_flight, failed = self._in_flight, []
        count = 0
        while in_flight and in_flight[0][0].done():
            delivery, entry = in_flight.popleft()
            error = delivery.exception()
            if error is None:
                count += 1
            else:
                failed.append((error, entry))
        if count:
            self._buffer.delivered(count)
            self._backoff = _FIRST_BACKOFF_SECONDS
            self._tell_of_gap(entry[1])
        if failed:
            self._after_failure(failed)
        self._watch()
        self._landed.set()

    def _after_failure(self, failed: list[tuple[BaseException, Entry]]) -> None:
        """What was certainly not written is tried again; what may have been is not."""
        again, lost = [], 0
        for error, entry in failed:
            if isinstance(error, MessageTooLargeError):
                self._cut(entry, error)
            elif isinstance(error, DeliveryFailedError):
                again.append(entry)
            else:
                self._losses.trouble = str(error)
                lost += 1
        if lost:
            self._buffer.lost(lost, "delivery_failed")
        if again:
            self._buffer.put_back(again, "delivery_failed")
            self._back_off(failed[-1][0])
            self._wake.set()

    def _tell_of_gap(self, stream: str) -> None:
        """Tell readers of a stream that works again what is missing."""
        if not self._losses.is_open or not self._buffer.is_half_empty:
            return
        gap = self._losses.gap()
        if gap is not None:
            self._buffer.put((enveloped(gap), stream, None, int(time.time() * 1000)))
            self._wake.set()
        if self._telling is None:
            self._tell_of_end()

    def _tell_of_end(self) -> None:
        """Tell on standard error that it is over; later, if that was written to just now."""
        self._telling = None
        self._losses.close()
        if self._losses.is_open and not self._task.done():
            pause = self._options.report_interval
            self._telling = self._loop.call_later(pause, self._tell_of_end, context=self._context)

    def _abandon(self) -> list[Entry]:
        """What was not answered by now is given up; its outcome concerns nobody any more."""
        left, self._in_flight = self._in_flight, deque()
        for delivery, _ in left:
            delivery.add_done_callback(_look_at)
        if left:
            self._buffer.lost(len(left), "unacknowledged")
        return [entry for _, entry in left]


def _look_at(delivery: Delivery) -> None:
    """Else the publisher would log that nobody has."""
    delivery.exception()

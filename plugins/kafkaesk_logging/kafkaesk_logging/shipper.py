"""The shipper: takes lines from the buffer, publishes them, and settles their outcomes."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from typing import Any, Protocol

from kafkaesk_core import (
    Delivery,
    DeliveryFailedError,
    MessageTooLargeError,
    NotRunningError,
)

from .buffer import Buffer, Entry
from .envelope import SCHEMA, enveloped, shortened_line
from .losses import Losses
from .settings import QueueOptions

__all__ = ["SUPPRESS_SHIPPING", "InternalPublisher", "Shipper"]

SUPPRESS_SHIPPING: ContextVar[bool] = ContextVar("kafkaesk_logging_suppress", default=False)
"""True in the context that ships lines; lines logged there are not shipped."""

_PAUSE_SECONDS = 0.02  # between two reads of the buffer: one wake-up for many lines
_NOT_OPEN_SECONDS = 0.05
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 0.5, 30.0
_SMALL_BYTES = 10_000  # a line is cut down to this if the topic takes no larger ones


class InternalPublisher(Protocol):
    """The part of the application that the shipper uses."""

    async def publish_internal(
        self,
        stream_id: str,
        data: bytes,
        *,
        schema: str,
        key: bytes | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Publish without plugins; raise NotRunningError while the application is not running."""


class Shipper:
    """Ships the buffer's lines during one run of an application, on its event loop.

    It runs in an empty context, in which no logged line is shipped. Otherwise a line about
    publishing would itself be published, and the context variables of the handler that woke the
    shipper would stay with all later lines.
    """

    def __init__(
        self, app: InternalPublisher, buffer: Buffer, losses: Losses, options: QueueOptions
    ) -> None:
        self._app = app
        self._buffer = buffer
        self._losses = losses
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._context = Context()
        self._context.run(SUPPRESS_SHIPPING.set, True)
        self._wake = asyncio.Event()
        self._wake.set()  # lines may be queued already
        self._in_flight: deque[tuple[Delivery, Entry]] = deque()
        self._settled = asyncio.Event()
        self._is_watching = False
        self._backoff = _FIRST_BACKOFF_SECONDS
        self._retry_at = 0.0
        self._is_refused = False
        self._end_report: asyncio.TimerHandle | None = None
        self._task = self._start(self._run())
        buffer.loop_thread = threading.get_ident()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._loop.create_task(work, context=self._context)

    @property
    def is_running(self) -> bool:
        """Whether the shipper takes lines from the buffer."""
        return not self._task.done() and not self._loop.is_closed()

    def wake(self) -> None:
        """Let the shipper read the buffer; safe to call from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop is closed: the lines wait for the next run
            return

    async def drain(self, timeout: float) -> list[Entry]:
        """Ship the queued lines for at most `timeout` seconds, and stop.

        Returns the lines that were not acknowledged in time; they count as lost.
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
        if self._end_report is not None:
            self._end_report.cancel()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._buffer.has_nothing_left():
                await self._wait_for_retry()
                await self._ship()
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _wait_for_retry(self) -> None:
        """Wait until failed lines may be sent again."""
        if (pause := self._retry_at - self._loop.time()) > 0:
            await asyncio.sleep(pause)

    async def _drain(self) -> None:
        await asyncio.wait([self._task])
        while True:
            if len(self._buffer) and not await self._ship():
                if self._is_refused:  # an application that stops does not accept lines again
                    return
                await asyncio.sleep(_NOT_OPEN_SECONDS)
            if not self._in_flight and not len(self._buffer):
                return
            if self._in_flight:
                await self._next_result()

    # --- out

    async def _ship(self) -> bool:
        """Publish the lines in the buffer; return False after a temporary failure."""
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
                except (TypeError, ValueError) as error:  # this line will always be refused
                    del entries[0]
                    self._losses.trouble = str(error)
                    self._buffer.lost(1, "delivery_failed")
                except Exception as error:  # of the broker, or on the way to it
                    self._buffer.put_back(entries, "queue_full")
                    self._back_off(error)
                    return False
            await asyncio.sleep(0)  # lets other tasks run, and the publisher send its batches
        return True

    async def _hand_over(self, entries: list[Entry]) -> None:
        """Publish entries and remove them from the list; wait while `max_in_flight` is reached."""
        publish, in_flight = self._app.publish_internal, self._in_flight
        done = 0
        try:
            for entry in entries:
                if len(in_flight) >= self._options.max_in_flight:
                    await self._next_result()
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
        """Cut a line, once, because the broker refuses messages of its size."""
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

    async def _next_result(self) -> None:
        """Wait until a batch in flight has an outcome."""
        self._watch()
        self._settled.clear()
        await self._settled.wait()

    def _watch(self) -> None:
        """Wait for the oldest delivery in flight; one callback serves many lines."""
        if self._in_flight and not self._is_watching:
            self._is_watching = True
            delivery = self._in_flight[0][0]
            delivery.add_done_callback(self._collect_results, context=self._context)

    def _collect_results(self, _: Delivery) -> None:
        """Settle the finished deliveries, oldest first."""
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
            self._report_gap(entry[1])
        if failed:
            self._after_failure(failed)
        self._watch()
        self._settled.set()

    def _after_failure(self, failed: list[tuple[BaseException, Entry]]) -> None:
        """Send again the lines that were certainly not written; the others count as lost."""
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

    def _report_gap(self, stream: str) -> None:
        """Report lost lines to the stream's readers, once shipping works again."""
        if not self._losses.is_open or not self._buffer.is_half_empty:
            return
        gap = self._losses.gap()
        if gap is not None:
            self._buffer.put((enveloped(gap), stream, None, int(time.time() * 1000)))
            self._wake.set()
        if self._end_report is None:
            self._report_end()

    def _report_end(self) -> None:
        """Report that shipping works again; wait if the last report is too recent."""
        self._end_report = None
        self._losses.close()
        if self._losses.is_open and not self._task.done():
            pause = self._options.report_interval
            self._end_report = self._loop.call_later(pause, self._report_end, context=self._context)

    def _abandon(self) -> list[Entry]:
        """Stop waiting for the deliveries in flight, and return their lines."""
        left, self._in_flight = self._in_flight, deque()
        for delivery, _ in left:
            delivery.add_done_callback(_ignore_result)
        if left:
            self._buffer.lost(len(left), "unacknowledged")
        return [entry for _, entry in left]


def _ignore_result(delivery: Delivery) -> None:
    """Read the outcome, so that the publisher does not log an unobserved failure."""
    delivery.exception()

"""The current producer, and its replacement when it is stuck."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextlib import suppress

from kafkaesk_core.errors import KafkaeskError, NotRunningError
from kafkaesk_core.kafka.producer import Producer
from kafkaesk_core.tasks import Backoff, start_detached

__all__ = ["ProducerSession", "ProducerSupervisor"]

logger = logging.getLogger("kafkaesk.publisher")

_START_SECONDS = 30.0
_GRACE_SECONDS = 5.0  # for the other batches of a producer that is replaced
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
_RECENT_SECONDS = 60.0


class ProducerSession:
    """One producer, and the deadlines of its batches in flight."""

    __slots__ = ("_changed", "_in_flight", "_shutting", "closed", "producer", "reason")

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.reason = "the publisher was stopped"
        """Why the session was closed; set once it is closed."""
        self.closed = asyncio.Event()
        self._in_flight: dict[Hashable, float] = {}
        self._changed = asyncio.Event()
        self._shutting: asyncio.Task[None] | None = None

    def add_in_flight(self, owner: Hashable, deadline: float) -> None:
        """Note that a batch of this owner is in flight."""
        self._in_flight[owner] = deadline

    def remove_in_flight(self, owner: Hashable) -> None:
        """Note that no batch of this owner is in flight any more."""
        self._in_flight.pop(owner, None)
        self._changed.set()

    def is_overdue(self, now: float) -> bool:
        """Whether a batch has passed its deadline."""
        return any(deadline <= now for deadline in self._in_flight.values())

    async def settle_down(self, seconds: float) -> None:
        """Wait until only overdue batches are in flight, but at most `seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while healthy := [d for d in self._in_flight.values() if d > loop.time()]:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(end, *healthy)):
                    await self._changed.wait()
            if loop.time() >= end:
                return

    async def shut(self) -> None:
        """Close the producer by force, so that it writes nothing more; then set `closed`."""
        if self._shutting is None:
            work = self.producer.force_close()
            self._shutting = start_detached(work)
            self._shutting.add_done_callback(lambda _: self.closed.set())
        await asyncio.wait([self._shutting])


class ProducerSupervisor:
    """Provides the current session, and replaces it."""

    def __init__(self, producer_factory: Callable[[], Producer]) -> None:
        self._factory = producer_factory
        self._start_timeout = _START_SECONDS
        self._session: ProducerSession | None = None
        self._retired: ProducerSession | None = None
        self._usable = asyncio.Event()
        self._replacing: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._reason = ""
        self._replaced_at = float("-inf")
        self.replaced = 0
        self.producer: Producer
        """The latest producer, open or closed; set once `start` has returned."""

    async def start(self, timeout: float) -> None:
        """Start the first producer; `timeout`, in seconds, also applies to every later one.

        Raises:
            BrokerError: the producer could not start.
        """
        self._start_timeout = timeout
        self._session = await self._open()
        self._usable.set()

    @property
    def session(self) -> ProducerSession | None:
        """The current session; None while there is none."""
        return self._session

    async def wait_for_session(self) -> ProducerSession:
        """Wait until there is a session, and return it.

        Raises:
            NotRunningError: the publisher is stopped.
        """
        while self._session is None:
            if self._is_stopped:
                raise NotRunningError("the publisher is stopped")
            await self._usable.wait()
        return self._session

    def check(self, now: float) -> None:
        """Replace the producer if its sending task has ended or a batch got no answer in time."""
        session = self._session
        if session is None:
            return
        if not session.producer.is_alive:
            self.retire(session, "its sending task has ended")
        elif session.is_overdue(now):
            self.retire(session, "a batch was not answered in time")

    def retire(self, session: ProducerSession, reason: str) -> None:
        """Stop using this session, and replace it.

        Its batches are reported as unknown only after it is closed: a batch still queued in it
        could be written after the report, and after newer messages (K39).
        """
        if session is not self._session or self._is_stopped:
            return
        logger.warning("the producer is replaced: %s", reason)
        self._session, self._retired = None, session
        self._usable.clear()
        self._reason = session.reason = reason
        self._replaced_at = asyncio.get_running_loop().time()
        self.replaced += 1
        work = self._replace(session)
        self._replacing = start_detached(work)

    async def stop(self, timeout: float, *, is_drained: bool) -> None:
        """Close the producer, gracefully if nothing is in flight; provide no more sessions."""
        self._is_stopped = True
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        session, self._session = self._session, None
        if session is not None and is_drained:
            await session.producer.close(timeout)
        for last in (session, self._retired):
            if last is not None:
                await last.shut()
        self._usable.set()

    def health(self, now: float) -> list[str]:
        """Return the problems, one line each."""
        if self._session is None:
            return [
                f"there is no working producer: {self._reason} (replaced {self.replaced} times)"
            ]
        if not self._session.producer.is_alive:
            return ["the producer's sending task has ended"]
        if now - self._replaced_at < _RECENT_SECONDS:
            return [f"the producer was replaced {self.replaced} times: {self._reason}"]
        return []

    async def _replace(self, session: ProducerSession) -> None:
        await session.settle_down(_GRACE_SECONDS)
        await session.shut()
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while self._session is None:
            try:
                self._session = await self._open()
            except Exception as error:  # whatever it is, another producer is needed
                self._reason = str(error) if isinstance(error, KafkaeskError) else repr(error)
                logger.warning(
                    "no new producer: %s; retrying in %.1f seconds", self._reason, backoff.pause
                )
                await backoff.wait()
        self._retired = None
        self._usable.set()

    async def _open(self) -> ProducerSession:
        producer = self._factory()
        await producer.start(self._start_timeout)
        self.producer = producer
        return ProducerSession(producer)

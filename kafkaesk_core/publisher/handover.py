"""One batch on its way through the producer, until its outcome is known."""

from __future__ import annotations

import asyncio

import aiokafka.errors as kafka
from aiokafka.structs import RecordMetadata

from kafkaesk_core.errors import (
    DeliveryError,
    DeliveryFailedError,
    DeliveryUnknownError,
    MessageTooLargeError,
    NotRunningError,
)
from kafkaesk_core.kafka.errors import explain, is_retryable
from kafkaesk_core.kafka.failures import Failure, is_too_large, judge

from .batches import Batch
from .desk import Desk
from .link import Session
from .transport import HandedBatch

__all__ = ["Handover"]

_ANSWER_SECONDS = 5.0  # what a batch gets at least, if it was handed over late
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class Handover:
    """Hands one batch over, again if it was certainly not written, and settles it once."""

    __slots__ = ("_batch", "_desk", "_pause", "_trouble", "was_too_large")

    def __init__(self, batch: Batch, desk: Desk) -> None:
        self._batch = batch
        self._desk = desk
        self._pause = _FIRST_PAUSE_SECONDS
        self._trouble: Exception | None = None
        self.was_too_large = False
        """Whether the broker takes no batch of this size."""

    async def run(self) -> tuple[Batch, ...]:
        """Settle the batch, or return the halves that are to be sent in its stead."""
        while True:
            try:
                session, handed = await self._in_time()
            except (TimeoutError, NotRunningError, _CannotBeSentError) as error:
                self._fail(error)
                return ()
            metadata, failure = await self._answer(session, handed)
            if failure is None:
                self._desk.settle(self._batch, metadata, None)
                return ()
            rest = await self._judge(session, failure, handed.attempts)
            if rest is not None:
                return rest

    async def _in_time(self) -> tuple[Session, HandedBatch]:
        if asyncio.get_running_loop().time() >= self._batch.deadline:
            raise TimeoutError  # asyncio.timeout_at lets pass what does not have to wait
        async with asyncio.timeout_at(self._batch.deadline):
            return await self._hand_over()

    async def _hand_over(self) -> tuple[Session, HandedBatch]:
        topic, partition = self._batch.topic_partition
        while True:
            session = await self._desk.link.wait_for_session()
            try:
                return session, await session.producer.send_batch(
                    self._batch.builder, topic, partition
                )
            except Exception as error:
                error.__traceback__ = None
                self._trouble = error
                if not is_retryable(error) and session.producer.is_alive:
                    raise _CannotBeSentError from error
                self._desk.link.check(asyncio.get_running_loop().time())
            await self._rest()

    async def _answer(
        self, session: Session, handed: HandedBatch
    ) -> tuple[RecordMetadata | None, Exception | None]:
        soonest = asyncio.get_running_loop().time() + min(
            _ANSWER_SECONDS, self._desk.delivery_timeout / 2
        )
        session.took_off(self, max(self._batch.deadline, soonest))
        try:
            return await handed.future, None
        except Exception as error:
            error.__traceback__ = None  # it leads to this frame, and so to the batch
            self._trouble = error
            return None, error
        finally:
            session.landed(self)

    async def _judge(
        self, session: Session, error: Exception, attempts: int
    ) -> tuple[Batch, ...] | None:
        """Return what is to be sent in the batch's stead; None: the batch, again."""
        judged = judge(error, attempts)
        if judged is Failure.UNKNOWN:
            await self._give_up(session, error)
            return ()
        if attempts:
            self._take_back(session, judged)
        if judged is Failure.CULPRIT and self._batch.count > 1:
            self.was_too_large = is_too_large(error)
            return self._batch.halves(session.producer.create_batch)
        if judged in (Failure.REFUSED, Failure.CULPRIT):
            self._fail(error)
            return ()
        if attempts:
            self._batch.repack(session.producer.create_batch)
        await self._rest()
        return None

    def _take_back(self, session: Session, judged: Failure) -> None:
        link, (topic, partition) = self._desk.link, self._batch.topic_partition
        if judged is Failure.RENEW:
            link.retire(session, f"the broker accepts no more batches for {topic}[{partition}]")
        else:
            session.producer.undo(topic, partition, self._batch.count)

    async def _give_up(self, session: Session, error: Exception) -> None:
        """Report the batch as unknown, once nothing more of this session can be written."""
        topic, partition = self._batch.topic_partition
        self._desk.link.retire(session, f"{topic}[{partition}]: {explain(error)}")
        await session.closed.wait()
        reason = session.reason if isinstance(error, kafka.ProducerClosed) else explain(error)
        unknown = DeliveryUnknownError(
            f"publishing {self._subject} was not acknowledged: {reason}; "
            "it may or may not have been written",
            topic=topic,
            partition=partition,
        )
        self._settle(unknown, error)

    def _fail(self, error: Exception) -> None:
        """Report the batch as certainly not written."""
        topic, partition = self._batch.topic_partition
        kind: type[DeliveryFailedError] = DeliveryFailedError
        trouble = error if self._trouble is None else self._trouble
        reason = explain(trouble)
        if is_too_large(error):
            kind = MessageTooLargeError
            reason += "; raise max.message.bytes of the topic, or publish less at once"
        elif isinstance(error, TimeoutError):
            reason = f"no broker took it within {self._desk.delivery_timeout:g} seconds"
            reason += f", the last trouble was {explain(trouble)}" if self._trouble else ""
        elif isinstance(error, NotRunningError):
            reason = "the publisher was stopped before"
        text = f"publishing {self._subject} failed, nothing was written: {reason}"
        self._settle(kind(text, topic=topic, partition=partition), trouble)

    @property
    def _subject(self) -> str:
        topic, partition = self._batch.topic_partition
        count = self._batch.count
        return f"{count} message{'s' if count != 1 else ''} to {topic}[{partition}]"

    def _settle(self, error: DeliveryError, cause: Exception) -> None:
        if not isinstance(cause, (TimeoutError, NotRunningError)):
            cause.__traceback__ = None
            error.__cause__ = cause
        self._desk.settle(self._batch, None, error)

    async def _rest(self) -> None:
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)


class _CannotBeSentError(Exception):
    """The producer will not take this batch, now or later."""

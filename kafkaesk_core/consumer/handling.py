"""One subscription at work: from a record to an outcome, and what that means for its offset."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.binding import Call
from kafkaesk_core.errors import DecodeError, Disposition, HandlerError, HandlerTimeoutError
from kafkaesk_core.ledger import Ledger
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.outcome import DONE, Outcome, outcome_of
from kafkaesk_core.subscription import Subscription

__all__ = ["Handling", "Job"]

logger = logging.getLogger("kafkaesk.handler")


class Job:
    """One record to be handled, with the epoch in which its partition delivered it."""

    __slots__ = ("attempt", "epoch", "partition", "record", "size", "stream")

    def __init__(
        self, record: ConsumerRecord, partition: TopicPartition, epoch: int, stream: str, size: int
    ) -> None:
        self.record = record
        self.partition = partition
        self.epoch = epoch
        self.stream = stream
        self.size = size
        self.attempt = 1


class Handling:
    """Runs the handler of one subscription on one record, inside the layers around it.

    `innermost` decodes and calls the handler; `layers` is the compiled chain around it, or
    `innermost` itself. `finished` is told of each record that is finished with, `stopped` of the
    first one that is not and shall stop the application.
    """

    def __init__(
        self,
        subscription: Subscription,
        call: Call,
        ledger: Ledger[TopicPartition],
        *,
        finished: Callable[[Job, Outcome], None],
        stopped: Callable[[HandlerError], None],
        blame: Callable[[BaseException], str | None],
    ) -> None:
        self.subscription = subscription
        self.counts: Counter[str] = Counter()
        self.innermost: Call = call if subscription.timeout_seconds is None else self._timed(call)
        self.layers: Callable[[IncomingMessage], Awaitable[Any]] = self.innermost
        self._ledger = ledger
        self._finished = finished
        self._stopped = stopped
        self._blame = blame

    async def run(self, job: Job) -> Outcome:
        """Handle one record once, and close its offset if it is finished with.

        Raises:
            asyncio.CancelledError: the running task was cancelled; the record is not done.
        """
        message = IncomingMessage(job.record, job.stream, attempt=job.attempt, epoch=job.epoch)
        try:
            await self.layers(message)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            outcome = self._outcome_of(error, message)
        else:
            outcome = DONE
        if outcome.is_terminal:
            self._finish(job, message, outcome)
        elif outcome.kind == "retry":
            job.attempt += 1
        return outcome

    def _finish(self, job: Job, message: IncomingMessage, outcome: Outcome) -> None:
        if message.is_closed or self._ledger.finish(job.partition, job.epoch, job.record.offset):
            self.counts[outcome.kind] += 1
            self._finished(job, outcome)
        # else: another member owns the partition by now; counted by the ledger

    def _outcome_of(self, error: BaseException, message: IncomingMessage) -> Outcome:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise error
            # The handler awaited something that was cancelled: a failure like any other.
        elif not isinstance(error, (Exception, Disposition)):
            raise error
        outcome = outcome_of(error, self.subscription.on_error, message)
        if outcome.kind == "skip":
            logger.warning("%s; skipped: %s", self._told(message), _reason(outcome))
        elif outcome.kind == "retry":
            self.counts["retry"] += 1
            wait = outcome.delay
            logger.warning(
                "%s; retrying in %g seconds: %s", self._told(message), wait, _reason(outcome)
            )
        else:
            self.counts["stop"] += 1
            self._stopped(self._handler_error(message, outcome.error or error))
        return outcome

    def _told(self, message: IncomingMessage) -> str:
        return (
            f"{message.topic}[{message.partition}]@{message.offset} "
            f"(group {self.subscription.group}, handler {self.subscription.handler_name}, "
            f"attempt {message.attempt})"
        )

    def _handler_error(self, message: IncomingMessage, cause: BaseException) -> HandlerError:
        schema = _schema_of(message)
        plugin = self._blame(cause)
        failed = HandlerError(
            f"{self._told(message)}, schema {schema or 'unknown'}: "
            f"{type(cause).__name__}: {cause}{f', in plugin {plugin!r}' if plugin else ''}; "
            "it is not committed and comes again after a restart; "
            "on_error=, or raising Skip() or Retry(), decides otherwise",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            group=self.subscription.group,
            schema=schema,
        )
        failed.__cause__ = cause
        return failed

    def _timed(self, call: Call) -> Call:
        seconds = self.subscription.timeout_seconds

        async def timed(message: IncomingMessage) -> Any:
            try:
                async with asyncio.timeout(seconds) as limit:
                    return await call(message)
            except TimeoutError as error:
                if not limit.expired():
                    raise  # the handler's own
                raise HandlerTimeoutError(
                    f"{self._told(message)}: not finished within timeout_seconds={seconds:g}",
                    topic=message.topic,
                    partition=message.partition,
                    offset=message.offset,
                    group=self.subscription.group,
                    schema=_schema_of(message),
                ) from error

        return timed


def _schema_of(message: IncomingMessage) -> str | None:
    try:
        return message.schema
    except DecodeError:
        return None


def _reason(outcome: Outcome) -> str:
    error = outcome.error
    if isinstance(error, Disposition):
        return str(error) or f"the handler raised {type(error).__name__}"
    return f"{type(error).__name__}: {error}"

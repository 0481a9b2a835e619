"""One subscription at work: from a record to an outcome, and what that means for its offset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from aiokafka.structs import TopicPartition

from kafkaesk_core.handlers import Binding
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.offsets import DONE, HandlerResult, OffsetTracker
from kafkaesk_core.router import Subscription

from .failures import Failures
from .job import Job

__all__ = ["Finished", "Handling", "MessageHandling"]

S = TypeVar("S")
Finished = Callable[[HandlerResult], None]


class Handling(Generic[S]):
    """Runs the handler of one subscription on a subject `S`, inside the layers around it.

    `innermost` decodes and calls the handler; `layers` is the compiled chain of `hook` around it,
    or `innermost` itself. `finished` is told of each record that is finished with.
    """

    hook: ClassVar[str]

    def __init__(
        self,
        subscription: Subscription,
        innermost: Callable[[S], Awaitable[Any]],
        offsets: OffsetTracker[TopicPartition],
        failures: Failures,
        finished: Finished | None,
    ) -> None:
        self.subscription = subscription
        self.innermost = innermost
        self.layers = innermost
        self.failures = failures
        self._offsets = offsets
        self._finished = finished
        self._done = 0

    @property
    def counts(self) -> Counter[str]:
        """Outcomes since the start."""
        return self.failures.counts + Counter(done=self._done)

    def finish(self, job: Job, outcome: HandlerResult) -> None:
        """Close the offset of a record that is finished with."""
        portion, offset = job.portion, job.offset
        if (
            job.is_closed
            or portion.finish(offset)
            or self._offsets.finish(portion.partition, portion.epoch, offset)
        ):
            portion.holding.size -= portion.room
            if outcome is DONE:
                self._done += 1
            else:
                self.failures.counts[outcome.kind] += 1
            if self._finished is not None:
                self._finished(outcome)
        # else: another member owns the partition by now; the offset tracker counts it


class MessageHandling(Handling[IncomingMessage]):
    """Runs the handler on one message at a time."""

    hook = "wrap_consume"

    def __init__(
        self,
        subscription: Subscription,
        binding: Binding,
        offsets: OffsetTracker[TopicPartition],
        failures: Failures,
        finished: Finished | None,
    ) -> None:
        innermost = failures.limited(binding.call, lambda message: (message,))
        super().__init__(subscription, innermost, offsets, failures, finished)

    async def run(self, jobs: Iterable[Job]) -> HandlerResult:
        """Handle records, each once, and close their offsets, until one is not finished with.

        Raises:
            asyncio.CancelledError: the running task was cancelled; its record is not done.
        """
        for first in jobs:
            job = first.again or first
            try:
                await self.layers(job)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:
                outcome = self._failed(error, job)
                if outcome.kind == "retry":
                    first.failed(job)
                if not outcome.is_terminal:
                    return outcome
            else:
                self.finish(job, DONE)
        return DONE

    def _failed(self, error: BaseException, job: Job) -> HandlerResult:
        if job.portion.holding.is_given_up:
            return self.failures.give_up(error, (job,))
        outcome = self.failures.decide(error, job)
        self.failures.tell(outcome, (job,))
        if outcome.is_terminal:
            self.finish(job, outcome)
        return outcome

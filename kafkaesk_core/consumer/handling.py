"""One subscription at work: from a record to an outcome, and what that means for its offset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, TypeVar

from aiokafka.structs import TopicPartition

from kafkaesk_core.binding import Binding
from kafkaesk_core.ledger import Ledger
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.outcome import DONE, Outcome
from kafkaesk_core.subscription import Subscription

from .failures import Failures
from .job import Job

__all__ = ["Finished", "Handling", "MessageHandling"]

S = TypeVar("S")
Finished = Callable[[Job, Outcome], None]


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
        ledger: Ledger[TopicPartition],
        failures: Failures,
        finished: Finished,
    ) -> None:
        self.subscription = subscription
        self.innermost = innermost
        self.layers = innermost
        self.failures = failures
        self._ledger = ledger
        self._finished = finished

    @property
    def counts(self) -> Counter[str]:
        """Outcomes since the start."""
        return self.failures.counts

    def finish(self, job: Job, message: IncomingMessage, outcome: Outcome) -> None:
        """Close the offset of a record that is finished with."""
        if message.is_closed or self._ledger.finish(job.partition, job.epoch, job.record.offset):
            self.failures.counts[outcome.kind] += 1
            self._finished(job, outcome)
        # else: another member owns the partition by now; counted by the ledger


class MessageHandling(Handling[IncomingMessage]):
    """Runs the handler on one message at a time."""

    hook = "wrap_consume"

    def __init__(
        self,
        subscription: Subscription,
        binding: Binding,
        ledger: Ledger[TopicPartition],
        failures: Failures,
        finished: Finished,
    ) -> None:
        innermost = failures.limited(binding.call, lambda message: (message,))
        super().__init__(subscription, innermost, ledger, failures, finished)

    async def run(self, job: Job) -> Outcome:
        """Handle one record once, and close its offset if it is finished with.

        Raises:
            asyncio.CancelledError: the running task was cancelled; the record is not done.
        """
        message = job.message()
        try:
            await self.layers(message)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            outcome = self.failures.decide(error, message)
            self.failures.tell(outcome, (message,))
        else:
            outcome = DONE
        if outcome.is_terminal:
            self.finish(job, message, outcome)
        elif outcome.kind == "retry":
            job.failed(message)
        return outcome

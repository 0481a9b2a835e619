"""One subscription at work on batches: what becomes of each message of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import BatchFailure, Skip
from kafkaesk_core.handlers import BatchBinding
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.offsets import DONE, GIVEN_UP, HandlerResult, OffsetTracker, flatten_group
from kafkaesk_core.router import Subscription

from .failures import Failures
from .handling import Finished, Handling
from .job import Job

__all__ = ["BatchHandling"]

Messages = Sequence[IncomingMessage]

PUT_OFF = HandlerResult("retry")
"""Not tried yet: it comes first in the next batch."""


class BatchHandling(Handling[Messages]):
    """Runs the handler on batches of one partition.

    An exception fails the whole batch; a BatchFailure those that it names, and the others are
    done. A message that cannot be decoded fails alone: those before it are handled as a batch of
    their own, those behind it come with the next one. What a layer leaves out is skipped.
    """

    hook = "wrap_consume_batch"

    def __init__(
        self,
        subscription: Subscription,
        binding: BatchBinding,
        offsets: OffsetTracker[TopicPartition],
        failures: Failures,
        finished: Finished | None,
    ) -> None:
        innermost = failures.limited(self._handle, lambda messages: messages)
        super().__init__(subscription, innermost, offsets, failures, finished)
        self._binding = binding

    async def run(self, jobs: Sequence[Job]) -> HandlerResult:
        """Handle a batch once, and close the offsets of the records that are finished with.

        Raises:
            asyncio.CancelledError: the running task was cancelled; no record is done.
        """
        messages = [job.again or job for job in jobs]
        try:
            await self.layers(messages)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            outcomes = self._failed(error, messages)
        else:
            if all(message.turn == "handed" for message in messages):
                for message in messages:
                    self.finish(message, DONE)
                return DONE
            outcomes = {}
        self._add_others(outcomes, messages)
        return self._settle(jobs, messages, outcomes)

    # --- innermost

    async def _handle(self, messages: Messages) -> Any:
        data, undecoded = self._decoded(messages)
        handed = messages[: len(data)]
        tried = max(len(data), 1)  # one that cannot be decoded has had its turn when it is first
        for index, message in enumerate(messages):
            message.turn = "handed" if index < tried else "put off"
        if undecoded is not None and not handed:
            raise BatchFailure({messages[0]: undecoded})
        try:
            return await self._binding.call(data, handed)
        except (BatchFailure, BaseExceptionGroup) as error:
            failure = _batch_failure(error)
            if failure is None:
                raise
            raise _named(failure, handed) from error

    def _decoded(self, messages: Messages) -> tuple[list[Any], Exception | None]:
        """The data of the messages up to the first that cannot be decoded, and why it cannot."""
        decode, data = self._binding.decode, []
        for message in messages:
            try:
                data.append(decode(message))
            except Exception as error:
                return data, error
        return data, None

    # --- what became of each

    def _failed(
        self, error: BaseException, messages: Sequence[Job]
    ) -> dict[IncomingMessage, HandlerResult]:
        """Decide on the messages that failed of an error; each decision is told once."""
        errors = _errors(error, messages)
        if messages[0].portion.holding.is_given_up:
            return dict.fromkeys(errors, self.failures.give_up(error, list(errors)))
        outcomes = {message: self.failures.decide(e, message) for message, e in errors.items()}
        told: dict[tuple[str, int], list[IncomingMessage]] = {}
        for message, outcome in outcomes.items():
            told.setdefault((outcome.kind, id(outcome.error)), []).append(message)
        for alike in told.values():
            self.failures.tell(outcomes[alike[0]], alike)
        return outcomes

    def _add_others(
        self, outcomes: dict[IncomingMessage, HandlerResult], messages: Messages
    ) -> None:
        """Add the outcomes of the messages that did not fail."""
        by_turn = {"handed": DONE, "put off": PUT_OFF}
        left_out = [m for m in messages if m not in outcomes and m.turn not in by_turn]
        if left_out:
            skipped = HandlerResult("skip", Skip("a layer of wrap_consume_batch left it out"))
            self.failures.tell(skipped, left_out)
            outcomes.update(dict.fromkeys(left_out, skipped))
        for message in messages:
            if message not in outcomes:
                outcomes[message] = by_turn[message.turn]

    def _settle(
        self,
        jobs: Sequence[Job],
        messages: Sequence[Job],
        outcomes: Mapping[IncomingMessage, HandlerResult],
    ) -> HandlerResult:
        """Close what is finished with; the lane keeps the rest, until its longest delay is over."""
        kept: dict[int, HandlerResult] = {}
        for index, (first, message) in enumerate(zip(jobs, messages, strict=True)):
            outcome = outcomes[message]
            if outcome.is_terminal:
                self.finish(message, outcome)
                continue
            kept[index] = outcome
            if outcome is PUT_OFF:
                message.turn = "waits"
            else:
                first.failed(message)
        if not kept:
            return DONE
        if GIVEN_UP in kept.values():
            return HandlerResult("given up", kept=tuple(kept))
        stop = next((outcome for outcome in kept.values() if outcome.kind == "stop"), None)
        if stop is not None:
            return HandlerResult("stop", stop.error, kept=tuple(kept))
        return HandlerResult("retry", delay=max(o.delay for o in kept.values()), kept=tuple(kept))


def _errors(error: BaseException, messages: Messages) -> dict[IncomingMessage, BaseException]:
    """The error of each message that failed."""
    failure = _batch_failure(error)
    if failure is not None:
        try:
            return _named(failure, messages).errors
        except ValueError as wrong:
            error = wrong
    return {message: error for message in messages if message.turn != "put off"}


def _batch_failure(error: BaseException) -> BatchFailure | None:
    """What says which messages failed: the error, or all of a TaskGroup's together."""
    named: dict[Any, BaseException] = {}
    for one in flatten_group(error):
        if not isinstance(one, BatchFailure):
            return None
        named.update(one.errors)
    return BatchFailure(named)


def _named(failure: BatchFailure, messages: Messages) -> BatchFailure:
    """The same with messages in place of their indexes.

    Raises:
        ValueError: it names what is not in the batch.
    """
    known: dict[Any, IncomingMessage] = {**dict(enumerate(messages)), **{m: m for m in messages}}
    for name in failure.errors:
        if name not in known:
            raise ValueError(
                f"BatchFailure names {name!r}, and the batch has {len(messages)} messages: "
                f"give indexes from 0 to {len(messages) - 1}"
            )
    return BatchFailure({known[name]: error for name, error in failure.errors.items()})

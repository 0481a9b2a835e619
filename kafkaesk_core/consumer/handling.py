"""The handling of a record or a batch, from the layers around the handler to the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, ClassVar, Generic, TypeVar

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import (
    BatchFailure,
    Skip,
)
from kafkaesk_core.handlers import BatchBinding, Binding
from kafkaesk_core.message import IncomingMessage, ParsedRecord
from kafkaesk_core.offsets import (
    DONE,
    RELEASED,
    HandlerResult,
    OffsetTracker,
    flatten_group,
)
from kafkaesk_core.router import Subscription

from .error_policy import ErrorPolicy
from .fetched import FetchedBatch, FetchedMessage, FetchedRecord, NotDueError

__all__ = ["BatchHandling", "Handling", "MessageHandling", "OnFinished"]

BATCH_OF = itemgetter(2)
"""The batch in which a record was fetched."""

S = TypeVar("S")
Messages = Sequence[IncomingMessage]

OnFinished = Callable[[HandlerResult], None]


class Handling(Generic[S]):
    """Runs one subscription's handler on a subject `S`, inside its layers.

    `innermost` decodes the subject and calls the handler. `on_finished` is called with the result
    of each done or skipped record.
    """

    hook: ClassVar[str]

    def __init__(
        self,
        subscription: Subscription,
        innermost: Callable[[S], Awaitable[Any]],
        offsets: OffsetTracker[TopicPartition],
        error_policy: ErrorPolicy,
        on_finished: OnFinished | None,
    ) -> None:
        self.subscription = subscription
        self._innermost = innermost
        self._layers = self._chain = innermost
        self._around: Callable[[Callable[[S], Awaitable[Any]], Any], Awaitable[Any]] | None = None
        self.error_policy = error_policy
        self._offsets = offsets
        self._on_finished = on_finished
        self._done = 0

    def compile(self, wrap: Callable[[Callable[[S], Awaitable[Any]]], Any]) -> None:
        """Rebuild the chain of `hook`; `wrap` puts its layers around the innermost call."""
        self._chain = wrap(self._innermost)
        self.put_around(self._around)

    def put_around(
        self, around: Callable[[Callable[[S], Awaitable[Any]], Any], Awaitable[Any]] | None
    ) -> None:
        """From now on call `around(chain, subject)` instead of the chain; None ends that."""
        self._around = around
        self._layers = self._chain if around is None else partial(around, self._chain)

    @property
    def counts(self) -> Counter[str]:
        """The number of results of each kind since the start."""
        self._offsets.settle()
        return self.error_policy.counts + Counter(done=self._done)

    def finish(self, message: FetchedMessage, outcome: HandlerResult) -> None:
        """Close the offset of a finished record."""
        self._close(message.batch, message.offset, outcome, is_closed=message.is_closed)

    def _close(
        self,
        batch: FetchedBatch,
        offset: int,
        outcome: HandlerResult = DONE,
        *,
        is_closed: bool = False,
    ) -> None:
        if (
            is_closed
            or batch.finish(offset)
            or self._offsets.finish(batch.partition, batch.epoch, offset)
        ):
            batch.holding.size -= batch.room
            if outcome is DONE:
                self._done += 1
            else:
                self.error_policy.counts[outcome.kind] += 1
            if self._on_finished is not None:
                self._on_finished(outcome)
        # else: its epoch is over; the offset tracker has counted the completion

    def _close_all(self, batch: FetchedBatch, offsets: Sequence[int]) -> None:
        """Close ascending offsets of done records, in one step if they are the lowest open ones."""
        if not self._offsets.finish_lowest(batch.partition, batch.epoch, offsets):
            for offset in offsets:
                self._close(batch, offset)
            return
        batch.holding.size -= batch.room * len(offsets)
        self._done += len(offsets)
        if self._on_finished is not None:
            for _ in offsets:
                self._on_finished(DONE)


def _read_nothing(value: bytes | None) -> Any:
    """Read no value: every record takes the path with a message."""


async def _call_nothing(data: Any) -> None:
    """Stand in for a handler; never called."""


NEVER_QUICK = (_read_nothing, _call_nothing)
"""Reads no value, so that a message is created for every record."""


class MessageHandling(Handling[IncomingMessage]):
    """Runs the handler on one message at a time."""

    hook = "wrap_consume"

    def __init__(
        self,
        subscription: Subscription,
        binding: Binding,
        offsets: OffsetTracker[TopicPartition],
        error_policy: ErrorPolicy,
        on_finished: OnFinished | None,
    ) -> None:
        innermost = error_policy.limit_time(binding.call, lambda message: (message,))
        super().__init__(subscription, innermost, offsets, error_policy, on_finished)
        has_limit = innermost is not binding.call
        self._quick = NEVER_QUICK if binding.quick is None or has_limit else binding.quick
        self._handled: list[FetchedRecord] = []
        self._note = self._handled.append if on_finished is None else self._close_one
        offsets.settlers.append(self.settle)

    async def run(self, records: Iterable[FetchedRecord]) -> HandlerResult:
        """Handle each record once and close its offset; stop at the first unfinished record.

        No message is created for a usual record unless a layer or an argument needs one.

        Raises:
            asyncio.CancelledError: the running task was cancelled; the current record is not done.
        """
        read, call = self._quick if self._layers is self._innermost else NEVER_QUICK
        note = self._note
        try:
            for entry in records:
                _, record, batch = entry
                message = None
                try:
                    data = read(record.value) if batch.messages is None else None
                    if data is not None:
                        await call(data)
                    else:
                        message = batch.message_of(record)
                        await self._layers(message)
                except (KeyboardInterrupt, SystemExit, GeneratorExit):
                    raise
                except BaseException as error:
                    outcome = self._decide(error, message, record, batch)
                    if not outcome.is_terminal:
                        return outcome
                else:
                    if message is None:
                        note(entry)
                    else:
                        self.finish(message, DONE)
        finally:
            self.settle()
        return DONE

    def settle(self) -> None:
        """Close the offsets of the records that were handled without a message."""
        if not self._handled:
            return
        handled = self._handled.copy()
        self._handled.clear()  # not replaced: `run` adds to it
        if len(handled) == 1:  # usual where each handler waits
            self._close_one(handled[0])
            return
        for batch, together in groupby(handled, BATCH_OF):
            self._close_all(batch, sorted([offset for offset, _, _ in together]))

    def _close_one(self, entry: FetchedRecord) -> None:
        offset, _, batch = entry
        self._close(batch, offset)

    def _decide(
        self,
        error: BaseException,
        message: FetchedMessage | None,
        record: ParsedRecord,
        batch: FetchedBatch,
    ) -> HandlerResult:
        if message is None:
            if isinstance(error, NotDueError):
                return HandlerResult("defer", delay=error.seconds)
            message = batch.message_of(record)
        if message.batch.holding.is_released:
            return self.error_policy.release(error, (message,))
        outcome = self.error_policy.decide(error, message)
        self.error_policy.report(outcome, (message,))
        if outcome.is_terminal:
            self.finish(message, outcome)
        elif outcome.is_parked:
            message.begin_next_attempt(outcome)
        return outcome


PUT_OFF = HandlerResult("retry")
"""The message was not tried yet: the next batch begins with it."""


class BatchHandling(Handling[Messages]):
    """Runs the handler on batches of one partition.

    An exception fails the whole batch. A BatchFailure fails the messages that it names; the others
    are done. A message that cannot be decoded fails alone: the messages before it form one batch,
    and the messages after it the next one. A message that a layer leaves out is skipped.
    """

    hook = "wrap_consume_batch"

    def __init__(
        self,
        subscription: Subscription,
        binding: BatchBinding,
        offsets: OffsetTracker[TopicPartition],
        error_policy: ErrorPolicy,
        on_finished: OnFinished | None,
    ) -> None:
        handle = self._handle
        innermost = error_policy.limit_time(handle, lambda messages: messages)
        super().__init__(subscription, innermost, offsets, error_policy, on_finished)
        self._binding = binding
        has_limit = innermost is not handle
        self._quick = None if has_limit else binding.quick

    async def run(self, records: Sequence[FetchedRecord]) -> HandlerResult:
        """Handle a batch once, and close the offsets of the finished records.

        No messages are created for usual records unless a layer or an argument needs them.

        Raises:
            asyncio.CancelledError: the running task was cancelled; no record is done.
        """
        quick = self._quick if self._layers is self._innermost and _are_plain(records) else None
        if quick is not None:
            read, call = quick
            if (data := read([record.value for _, record, _ in records])) is not None:
                return await self._run_quick(call, data, records)
        messages, wait = self._due(records)
        if not messages:
            return HandlerResult("defer", delay=wait, kept=range(len(records)))
        result = await self._run(messages)
        if len(messages) == len(records):
            return result
        waiting = range(len(messages), len(records))
        if result.is_terminal:
            return HandlerResult("defer", delay=wait, kept=waiting)
        return replace(result, kept=(*result.kept, *waiting))

    # --- without messages

    async def _run_quick(
        self,
        call: Callable[[list[Any]], Awaitable[Any]],
        data: list[Any],
        records: Sequence[FetchedRecord],
    ) -> HandlerResult:
        try:
            await call(data)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            messages = [batch.message_of(record) for _, record, batch in records]
            for message in messages:
                message.turn = "handed"
            return self._fail(error, messages)
        for batch, together in groupby(records, BATCH_OF):
            self._close_all(batch, [offset for offset, _, _ in together])
        return DONE

    # --- with messages

    @staticmethod
    def _due(records: Sequence[FetchedRecord]) -> tuple[list[FetchedMessage], float]:
        """Return the messages before the first one that is not due, and the seconds it waits."""
        if _are_plain(records):
            return [FetchedMessage(record, batch) for _, record, batch in records], 0.0
        try:
            return [batch.message_of(record) for _, record, batch in records], 0.0
        except NotDueError as early:
            wait = early.seconds
        messages: list[FetchedMessage] = []
        for _, record, batch in records:
            try:
                messages.append(batch.message_of(record))
            except NotDueError:
                break
        return messages, wait

    async def _run(self, messages: Sequence[FetchedMessage]) -> HandlerResult:
        try:
            await self._layers(messages)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            return self._fail(error, messages)
        if len([None for message in messages if message.turn == "handed"]) == len(messages):
            for message in messages:
                self._close(message.batch, message.offset, is_closed=message.is_closed)
            return DONE
        return self._settle(messages, self._with_others({}, messages))

    # --- innermost

    async def _handle(self, messages: Messages) -> Any:
        data, undecoded = self._decode(messages)
        handed = messages[: len(data)]
        tried = max(len(data), 1)  # an undecodable first message has had its turn
        for message in messages[:tried]:
            message.turn = "handed"
        for message in messages[tried:]:
            message.turn = "put off"
        if undecoded is not None and not handed:
            raise BatchFailure({messages[0]: undecoded})
        try:
            return await self._binding.call(data, handed)
        except (BatchFailure, BaseExceptionGroup) as error:
            failure = _batch_failure(error)
            if failure is None:
                raise
            raise _named(failure, handed) from error

    def _decode(self, messages: Messages) -> tuple[list[Any], Exception | None]:
        """Return the data of the messages before the first undecodable one, and its error."""
        decode, data = self._binding.decode, []
        for message in messages:
            try:
                data.append(decode(message))
            except Exception as error:
                return data, error
        return data, None

    # --- the result of each message

    def _fail(self, error: BaseException, messages: Sequence[FetchedMessage]) -> HandlerResult:
        outcomes = self._decide_each(error, messages)
        return self._settle(messages, self._with_others(outcomes, messages))

    def _decide_each(
        self, error: BaseException, messages: Sequence[FetchedMessage]
    ) -> dict[IncomingMessage, HandlerResult]:
        """Decide on the failed messages; report each decision once."""
        errors = _errors(error, messages)
        if messages[0].batch.holding.is_released:
            return dict.fromkeys(errors, self.error_policy.release(error, list(errors)))
        outcomes = {message: self.error_policy.decide(e, message) for message, e in errors.items()}
        by_decision: dict[tuple[str, int], list[IncomingMessage]] = {}
        for message, outcome in outcomes.items():
            by_decision.setdefault((outcome.kind, id(outcome.error)), []).append(message)
        for alike in by_decision.values():
            self.error_policy.report(outcomes[alike[0]], alike)
        return outcomes

    def _with_others(
        self, outcomes: dict[IncomingMessage, HandlerResult], messages: Messages
    ) -> Mapping[IncomingMessage, HandlerResult]:
        """Add the results of the messages that did not fail."""
        by_turn = {"handed": DONE, "put off": PUT_OFF}
        left_out = [m for m in messages if m not in outcomes and m.turn not in by_turn]
        if left_out:
            skipped = HandlerResult("skip", Skip("a layer of wrap_consume_batch left it out"))
            self.error_policy.report(skipped, left_out)
            outcomes.update(dict.fromkeys(left_out, skipped))
        for message in messages:
            if message not in outcomes:
                outcomes[message] = by_turn[message.turn]
        return outcomes

    def _settle(
        self,
        messages: Sequence[FetchedMessage],
        outcomes: Mapping[IncomingMessage, HandlerResult],
    ) -> HandlerResult:
        """Close the finished messages; the lane keeps the others for their longest delay."""
        kept: dict[int, HandlerResult] = {}
        for index, message in enumerate(messages):
            outcome = outcomes[message]
            if outcome.is_terminal:
                self.finish(message, outcome)
                continue
            kept[index] = outcome
            if outcome is PUT_OFF:
                message.turn = "waits"
                message.batch.keep(message)
            else:
                message.begin_next_attempt(outcome)
        if not kept:
            return DONE
        if RELEASED in kept.values():
            return HandlerResult("released", kept=tuple(kept))
        stop = next((outcome for outcome in kept.values() if outcome.kind == "stop"), None)
        if stop is not None:
            return HandlerResult("stop", stop.error, kept=tuple(kept))
        return HandlerResult("retry", delay=max(o.delay for o in kept.values()), kept=tuple(kept))


def _are_plain(records: Sequence[FetchedRecord]) -> bool:
    """Whether every record is still as it was fetched."""
    return all(batch.is_plain for batch in {batch for _, _, batch in records})


def _errors(error: BaseException, messages: Messages) -> dict[IncomingMessage, BaseException]:
    """Return the error of each failed message."""
    failure = _batch_failure(error)
    if failure is not None:
        try:
            return _named(failure, messages).errors
        except ValueError as wrong:
            error = wrong
    return {message: error for message in messages if message.turn != "put off"}


def _batch_failure(error: BaseException) -> BatchFailure | None:
    """Return the error if it names messages, or combine a TaskGroup's errors if they all do."""
    named: dict[Any, BaseException] = {}
    for one in flatten_group(error):
        if not isinstance(one, BatchFailure):
            return None
        named.update(one.errors)
    return BatchFailure(named)


def _named(failure: BatchFailure, messages: Messages) -> BatchFailure:
    """Replace indexes with their messages.

    Raises:
        ValueError: an entry is not in the batch.
    """
    known: dict[Any, IncomingMessage] = {**dict(enumerate(messages)), **{m: m for m in messages}}
    for name in failure.errors:
        if name not in known:
            raise ValueError(
                f"BatchFailure names {name!r}, and the batch has {len(messages)} messages: "
                f"give indexes from 0 to {len(messages) - 1}"
            )
    return BatchFailure({known[name]: error for name, error in failure.errors.items()})

"""Handles one batch, and decides on each of its messages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from kafkaesk_core import BatchFailure, ConsumeBatchCall, Disposition, IncomingMessage, Skip

from .cancellation import as_failure, is_shutdown
from .mailer import Mailer
from .recovery import Recovery
from .search import Search

__all__ = ["BatchRun"]

Messages = Sequence[IncomingMessage]


class BatchRun:
    """Handles one batch; `outcomes` has the decisions on messages that are not done."""

    def __init__(self, recovery: Recovery, call_next: ConsumeBatchCall, mailer: Mailer) -> None:
        self._recovery = recovery
        self._call_next = call_next
        self._mailer = mailer
        self.outcomes: dict[IncomingMessage, BaseException] = {}

    async def run(self, messages: Messages) -> Any:  # what the handler returns
        """Handle the batch.

        Raises:
            BatchFailure: some messages are not done; the error names them. BaseException: the
            decision on all messages.
        """
        ready, result = await self._ready(messages), None
        runs = [list(run) for _, run in groupby(ready, self._lane)]
        for run in runs:
            result = await self._handle(run)
            if any(message.turn == "put off" for message in run):
                break
        _put_off([m for run in runs for m in run], self.outcomes)
        if self.outcomes:
            raise self._as_one(messages)
        return result

    def _as_one(self, messages: Messages) -> BaseException:
        """Return the decision if it is the same for all messages, else a BatchFailure."""
        first = next(iter(self.outcomes.values()))
        is_one = all(self.outcomes.get(message) is first for message in messages)
        return first if is_one else BatchFailure(self.outcomes)

    def _lane(self, message: IncomingMessage) -> object:
        """Return the lane of a message: alone if it has failed alone, else with the others."""
        return message.offset if self._recovery.is_alone(message) else None

    async def _ready(self, messages: Messages) -> Messages:
        """Return the messages to handle now."""
        recovery = self._recovery
        if not recovery.needs_care and messages[0].attempt == 1:
            return messages
        ready = []
        for index, message in enumerate(messages):
            try:
                if await recovery.is_settled(message, self._mailer):
                    message.turn = "handed"
                    continue
            except Disposition as waits:
                self.outcomes[message] = waits
                continue
            ready.append(message)
            if recovery.breaker.is_open:  # it lets one through
                for other in messages[index + 1 :]:
                    other.turn = "put off"
                break
        return ready

    async def _handle(self, messages: list[IncomingMessage]) -> Any:  # what the handler returns
        try:
            result = await self._call(messages)
        except BatchFailure as failure:
            await self._fail_each(failure.errors)
        except Disposition as decision:
            self._decide(messages, decision)
        except Exception as error:
            if is_shutdown():
                raise
            await self._fail_whole(messages, error)
        else:
            if self._recovery.needs_care or messages[0].attempt > 1:
                self._recovery.succeed(messages)
            return result

    async def _call(self, messages: Messages) -> Any:  # what the handler returns
        """Call the handler; the cancellation of an awaited object is an error like any other."""
        try:
            return await self._call_next(messages)
        except asyncio.CancelledError as error:
            if is_shutdown():
                raise
            raise as_failure(error) from error

    def _decide(self, messages: Messages, decision: BaseException) -> None:
        """Apply the handler's own decision."""
        if isinstance(decision, Skip):
            self._recovery.settle(messages)
        self.outcomes.update(dict.fromkeys(messages, decision))

    async def _fail_whole(self, messages: list[IncomingMessage], error: Exception) -> None:
        """Retry a whole batch once; then search for its failing messages."""
        policy = self._recovery.policy
        if len(messages) == 1 or not policy.bisect:
            await self._fail_each(dict.fromkeys(messages, error))
            return
        is_first = all(message.attempt == 1 for message in messages)
        if is_first and policy.attempts > 1 and not policy.is_own_fault(error):
            self._retry(messages, error)
            return
        search = Search(self._call)
        await search.run(messages)
        self._recovery.note_alone(search.failing)
        await self._fail_each(search.failing)
        exhausted = [m for m in search.untried if m.attempt >= policy.attempts]
        await self._fail_each(dict.fromkeys(exhausted, error))
        self._retry([m for m in search.untried if m.attempt < policy.attempts], error)

    def _retry(self, messages: Messages, error: Exception) -> None:
        """Retry messages together, with one decision that is logged once."""
        if messages:
            again = self._recovery.again(messages[0], error)
            self.outcomes.update(dict.fromkeys(messages, again))

    async def _fail_each(
        self,
        errors: Mapping[Any, BaseException],  # of messages: a layer's BatchFailure names them
    ) -> None:
        for message, error in errors.items():
            try:
                if isinstance(error, Exception):
                    await self._recovery.fail(message, error, self._mailer)
                else:
                    self._decide((message,), error)
            except (Exception, Disposition) as outcome:
                self.outcomes[message] = outcome


def _put_off(messages: Messages, outcomes: Mapping[IncomingMessage, BaseException]) -> None:
    """Defer the messages behind a message that the core has deferred, to keep the order."""
    is_put_off = False
    for message in messages:
        is_put_off = is_put_off or message.turn == "put off"
        if is_put_off and message not in outcomes:
            message.turn = "put off"

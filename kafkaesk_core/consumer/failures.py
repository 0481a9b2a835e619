"""What a subscription does about failures: decide, tell, and stop the application if need be."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from kafkaesk_core.errors import DecodeError, Disposition, HandlerError, HandlerTimeoutError
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.outcome import Outcome, outcome_of
from kafkaesk_core.subscription import Subscription

__all__ = ["Failures"]

S = TypeVar("S")
Messages = Sequence[IncomingMessage]
logger = logging.getLogger("kafkaesk.handler")


class Failures:
    """The failures of one subscription's messages.

    `stopped` is told of those that shall stop the application, `blame` names the plugin that
    raised an error, `counts` counts outcomes.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        stopped: Callable[[HandlerError], None],
        blame: Callable[[BaseException], str | None],
    ) -> None:
        self._subscription = subscription
        self._stopped = stopped
        self._blame = blame
        self.counts: Counter[str] = Counter()

    def decide(self, error: BaseException, message: IncomingMessage) -> Outcome:
        """What becomes of a message that failed of `error`.

        Raises:
            BaseException: the error itself, if it is the cancellation of the running task or an
                exit: no failure, and the message is not done.
        """
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise error
            # The handler awaited something that was cancelled: a failure like any other.
        elif not isinstance(error, (Exception, Disposition)):
            raise error
        return outcome_of(error, self._subscription.on_error, message)

    def tell(self, outcome: Outcome, messages: Messages) -> None:
        """Count and log one decision on these messages, or stop the application for it."""
        if outcome.kind == "skip":
            logger.warning("%s; skipped: %s", self._told(messages), _reason(outcome))
        elif outcome.kind == "retry":
            self.counts["retry"] += len(messages)
            logger.warning(
                "%s; retrying in %g seconds: %s",
                *(self._told(messages), outcome.delay, _reason(outcome)),
            )
        else:
            self.counts["stop"] += 1
            self._stopped(self._handler_error(messages, outcome.error))

    def limited(
        self, call: Callable[[S], Awaitable[Any]], messages_of: Callable[[S], Messages]
    ) -> Callable[[S], Awaitable[Any]]:
        """Put the subscription's time limit, if it has one, around a call."""
        seconds = self._subscription.timeout_seconds
        if seconds is None:
            return call

        async def timed(subject: S) -> Any:
            try:
                async with asyncio.timeout(seconds) as limit:
                    return await call(subject)
            except TimeoutError as error:
                if not limit.expired():
                    raise  # the handler's own
                messages = messages_of(subject)
                raise HandlerTimeoutError(
                    f"{self._told(messages)}: not finished within timeout_seconds={seconds:g}",
                    **self._place(messages[0]),
                ) from error

        return timed

    def _handler_error(self, messages: Messages, cause: BaseException | None) -> HandlerError:
        place = self._place(messages[0])
        plugin = self._blame(cause) if cause else None
        failed = HandlerError(
            f"{self._told(messages)}, schema {place['schema'] or 'unknown'}: "
            f"{_named(cause)}{f', in plugin {plugin!r}' if plugin else ''}; "
            "it is not committed and comes again after a restart; "
            "on_error=, or raising Skip() or Retry(), decides otherwise",
            **place,
        )
        failed.__cause__ = cause
        return failed

    def _place(self, message: IncomingMessage) -> dict[str, Any]:
        return {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "group": self._subscription.group,
            "schema": _schema_of(message),
        }

    def _told(self, messages: Messages) -> str:
        first, last = messages[0], messages[-1]
        several = "" if first is last else f"-{last.offset}, {len(messages)} messages"
        return (
            f"{first.topic}[{first.partition}]@{first.offset}{several} "
            f"(group {self._subscription.group}, handler {self._subscription.handler_name}, "
            f"attempt {first.attempt})"
        )


def _schema_of(message: IncomingMessage) -> str | None:
    try:
        return message.schema
    except DecodeError:
        return None


def _reason(outcome: Outcome) -> str:
    error = outcome.error
    if isinstance(error, Disposition):
        return str(error) or f"the handler raised {type(error).__name__}"
    return _named(error)


def _named(error: BaseException | None) -> str:
    """The error's class and text; some errors fail when they are asked for theirs."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__} (its text cannot be shown)"

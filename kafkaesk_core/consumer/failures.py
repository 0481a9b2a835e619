"""What a subscription does about failures: decide, tell, and stop the application if need be."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from kafkaesk_core.errors import DecodeError, Disposition, HandlerError, HandlerTimeoutError
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.offsets import (
    GIVEN_UP,
    HandlerResult,
    decide_result,
    flatten_group,
    unwrap_group,
)
from kafkaesk_core.router import Subscription

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

    def decide(self, error: BaseException, message: IncomingMessage) -> HandlerResult:
        """What becomes of a message that failed of `error`.

        Raises:
            BaseException: the error itself, if it is the cancellation of the running task or an
                exit: no failure, and the message is not done.
        """
        error = unwrap_group(error)
        if _is_cancelled(error) or not all(
            isinstance(one, FAILURES) for one in flatten_group(error)
        ):
            raise error
        return decide_result(error, self._subscription.on_error, message)

    def give_up(self, error: BaseException, messages: Messages) -> HandlerResult:
        """What becomes of messages that fail while their partition is taken from them.

        They come again, so nothing is decided: most of it is what a handler makes of its
        cancellation, or of a commit that came too late.

        Raises:
            BaseException: as `decide` does.
        """
        if _is_cancelled(error) or not all(
            isinstance(one, FAILURES) for one in flatten_group(error)
        ):
            raise error
        self.counts["given_up"] += len(messages)
        logger.info(
            "%s; interrupted when its partition was handed over, and will be redelivered: %s",
            *(self._told(messages), self._described(error, messages)),
        )
        return GIVEN_UP

    def tell(self, outcome: HandlerResult, messages: Messages) -> None:
        """Count and log one decision on these messages, or stop the application for it."""
        if outcome.kind == "skip":
            logger.warning("%s; skipped: %s", self._told(messages), self._reason(outcome, messages))
        elif outcome.kind == "retry":
            self.counts["retry"] += len(messages)
            logger.warning(
                "%s; retrying in %g seconds: %s",
                *(self._told(messages), outcome.delay, self._reason(outcome, messages)),
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
            f"{self._described(cause, messages)}{f', in plugin {plugin!r}' if plugin else ''}; "
            "the record is not committed and will be redelivered after a restart; "
            "to change this, set on_error= or raise Skip() or Retry()",
            **place,
        )
        failed.__cause__ = cause
        return failed

    def _reason(self, outcome: HandlerResult, messages: Messages) -> str:
        error = outcome.error
        if isinstance(error, Disposition):
            return str(error) or f"the handler raised {type(error).__name__}"
        return self._described(error, messages)

    def _described(self, error: BaseException | None, messages: Messages) -> str:
        """Name and text of an error, without the place that is told beside it."""
        first = messages[0]
        text = _described(error).replace(f"{self._told(messages)}: ", "")
        return text.replace(f"{first.topic}[{first.partition}]@{first.offset}", "the record")

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


FAILURES = (Exception, Disposition, asyncio.CancelledError)
"""What a message can fail of. A cancellation is: the handler awaited what others cancelled."""


def _is_cancelled(error: BaseException) -> bool:
    """Whether it is the cancellation of the task that runs the handler."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _schema_of(message: IncomingMessage) -> str | None:
    try:
        return message.schema
    except DecodeError:
        return None


def _described(error: BaseException | None) -> str:
    """Name and text. A text that raises itself would leave its record without an outcome."""
    try:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, BaseExceptionGroup):
            text += f": {', '.join(_described(one) for one in flatten_group(error))}"
        return text
    except Exception:
        return f"{type(error).__name__}, whose text cannot be shown"

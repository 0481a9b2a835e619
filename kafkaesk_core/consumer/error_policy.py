"""The reaction to a handler's error: skip, retry or stop, and the report of it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from inspect import Parameter, signature
from time import time
from typing import Any, TypeVar

from kafkaesk_core.errors import (
    DecodeError,
    Disposition,
    HandlerError,
    HandlerTimeoutError,
)
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.offsets import (
    RELEASED,
    HandlerResult,
    decide_result,
    flatten_group,
    unwrap_group,
)
from kafkaesk_core.plugins.chains import Raiser
from kafkaesk_core.router import Subscription
from kafkaesk_core.status import LastError
from kafkaesk_core.tasks import is_cancelled

__all__ = ["ErrorPolicy", "describe"]

logger = logging.getLogger("kafkaesk.handler")

S = TypeVar("S")
Messages = Sequence[IncomingMessage]
FAILURES = (Exception, Disposition, asyncio.CancelledError)
"""Exceptions that fail a message; a CancelledError does if an object that the handler awaited was
cancelled."""


class ErrorPolicy:
    """Decides on the failures of one subscription's messages, and reports them.

    `report_failure` receives the errors that stop the application, `find_raiser` names the
    plugin that raised an error, and `counts` counts the decisions.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        report_failure: Callable[[HandlerError], None],
        find_raiser: Callable[[BaseException], Raiser | None],
    ) -> None:
        self._subscription = subscription
        self._report_failure = report_failure
        self._find_raiser = find_raiser
        self.counts: Counter[str] = Counter()
        self.last_error: LastError | None = None

    def decide(self, error: BaseException, message: IncomingMessage) -> HandlerResult:
        """Return the result of a message whose handling raised `error`.

        Raises:
            BaseException: the error itself, if the running task was cancelled or the process exits.
                Neither is a failure, and the message is not done.
        """
        error = unwrap_group(error)
        if _is_cancelled(error) or not all(
            isinstance(one, FAILURES) for one in flatten_group(error)
        ):
            raise error
        return decide_result(error, self._subscription.on_error, message)

    def release(self, error: BaseException, messages: Messages) -> HandlerResult:
        """Return the result of messages that fail while their partition is being released.

        They are redelivered, so `on_error` is not asked. Most such errors come from a handler's
        cancellation, or from a commit that was too late.

        Raises:
            BaseException: as with `decide`.
        """
        if _is_cancelled(error) or not all(
            isinstance(one, FAILURES) for one in flatten_group(error)
        ):
            raise error
        self.counts["given_up"] += len(messages)
        logger.info(
            "%s; interrupted when its partition was handed over, and will be redelivered: %s",
            *(self._label(messages), self._describe(error, messages)),
        )
        return RELEASED

    def report(self, outcome: HandlerResult, messages: Messages) -> None:
        """Count and log the decision on these messages, or stop the application."""
        if outcome.kind != "defer":
            self._note_error(outcome, messages)
        if outcome.kind == "skip":
            logger.warning(
                "%s; skipped: %s", self._label(messages), self._reason(outcome, messages)
            )
        elif outcome.kind == "retry":
            self.counts["retry"] += len(messages)
            logger.warning(
                "%s; retrying in %g seconds: %s",
                *(self._label(messages), outcome.delay, self._reason(outcome, messages)),
            )
        elif outcome.kind == "defer":
            self.counts["deferred"] += len(messages)
            logger.debug(
                "%s; deferred for %g seconds: %s",
                *(self._label(messages), outcome.delay, self._reason(outcome, messages)),
            )
        else:
            self.counts["stop"] += 1
            self._report_failure(self._handler_error(messages, outcome.error))

    def _note_error(self, outcome: HandlerResult, messages: Messages) -> None:
        first = messages[0]
        place = (first.topic, first.partition, first.offset, first.attempt)
        self.last_error = LastError(self._reason(outcome, messages), *place, at=time())

    def limit_time(
        self, call: Callable[[S], Awaitable[Any]], messages_of: Callable[[S], Messages]
    ) -> Callable[[S], Awaitable[Any]]:
        """Limit a call to the subscription's `timeout_seconds`, if it has one."""
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
                    f"{self._label(messages)}: not finished within timeout_seconds={seconds:g}",
                    **self._place(messages[0]),
                ) from error

        return timed

    def _handler_error(self, messages: Messages, cause: BaseException | None) -> HandlerError:
        place = self._place(messages[0])
        raiser = self._find_raiser(cause) if cause else None
        handler_error = HandlerError(
            f"{self._label(messages)}, schema {place['schema'] or 'unknown'}: "
            f"{self._describe(cause, messages)}{f', {raiser}' if raiser else ''}; "
            "the record is not committed and will be redelivered after a restart; "
            "to change this, set on_error= or raise Skip() or Retry()",
            **place,
        )
        handler_error.__cause__ = cause
        return handler_error

    def _reason(self, outcome: HandlerResult, messages: Messages) -> str:
        error = outcome.error
        if isinstance(error, Disposition):
            return str(error) or f"the handler raised {type(error).__name__}"
        return self._describe(error, messages)

    def _describe(self, error: BaseException | None, messages: Messages) -> str:
        """Return an error's name and text without the record; the surrounding text names it."""
        first = messages[0]
        text = describe(error).replace(f"{self._label(messages)}: ", "")
        text = text.replace(f"{first.topic}[{first.partition}]@{first.offset}", "the record")
        return text + self._missing_annotation(error)

    def _missing_annotation(self, error: BaseException | None) -> str:
        """Explain a missing attribute of a dict to a handler that has no model annotation."""
        first = next(iter(signature(self._subscription.func).parameters.values()))
        if (
            not isinstance(error, AttributeError)
            or first.annotation is not Parameter.empty
            or type(error.obj) is not dict
        ):
            return ""
        return (
            f" (the parameter {first.name!r} has no annotation, so it is the record's JSON as a "
            "dict; annotate it with a model)"
        )

    def _place(self, message: IncomingMessage) -> dict[str, Any]:
        return {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "group": self._subscription.group,
            "schema": _schema_of(message),
        }

    def _label(self, messages: Messages) -> str:
        first, last = messages[0], messages[-1]
        several = "" if first is last else f"-{last.offset}, {len(messages)} messages"
        return (
            f"{first.topic}[{first.partition}]@{first.offset}{several} "
            f"(group {self._subscription.group}, handler {self._subscription.handler_name}, "
            f"attempt {first.attempt})"
        )


def _is_cancelled(error: BaseException) -> bool:
    """Whether the error is the cancellation of the task that runs the handler."""
    return isinstance(error, asyncio.CancelledError) and is_cancelled()


def _schema_of(message: IncomingMessage) -> str | None:
    try:
        return message.schema
    except DecodeError:
        return None


def describe(error: BaseException | None) -> str:
    """Return the error's name and text, even if its `__str__` raises."""
    try:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, BaseExceptionGroup):
            text += f": {', '.join(describe(one) for one in flatten_group(error))}"
        return text
    except Exception:
        return f"{type(error).__name__}, whose text cannot be shown"

"""What kind of failure a span or a point tells of: `error.type`, of low cardinality.

https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/general/recording-errors.md
"""

from __future__ import annotations

import asyncio

from aiokafka.errors import BrokerResponseError

from kafkaesk_core import (
    BatchFailure,
    Defer,
    DeliveryError,
    Disposition,
    HandlerTimeoutError,
    Retry,
    Skip,
)

__all__ = ["disposition_of", "error_type", "failed_by", "is_shutdown"]

TIMEOUT = "timeout"


def error_type(error: BaseException) -> str:
    """Return Kafka's name for a broker's answer, "timeout", or the class as "module.Name"."""
    cause = error.__cause__ if isinstance(error, DeliveryError) and error.__cause__ else error
    if isinstance(cause, BrokerResponseError):
        return str(cause.message)
    if isinstance(cause, HandlerTimeoutError):
        return TIMEOUT
    kind = type(cause)
    return kind.__qualname__ if kind.__module__ == "builtins" else full_name(kind)


def full_name(kind: type) -> str:
    """Name a class by its module, where it is not one of Python's own."""
    return f"{kind.__module__}.{kind.__qualname__}"


def disposition_of(error: BaseException) -> str | None:
    """Return "skip", "retry" or "defer" where that was raised: decisions, no failures."""
    if isinstance(error, (Skip, Retry, Defer)):
        return type(error).__name__.lower()
    return None


def is_shutdown(error: BaseException) -> bool:
    """Whether the running task is being cancelled: the message comes again, nothing failed."""
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, (KeyboardInterrupt, SystemExit))
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def failed_by(error: BaseException) -> BaseException | None:
    """Return what a span failed of; None if `error` only decides on messages.

    Of a batch of which some messages failed that is the first real failure.
    """
    if isinstance(error, BatchFailure):
        failures = (failed_by(each) for each in error.errors.values())
        return next((failure for failure in failures if failure is not None), None)
    if isinstance(error, Disposition) and disposition_of(error) is not None:
        return None
    return error

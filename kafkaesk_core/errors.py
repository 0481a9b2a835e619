"""The errors that kafkaesk raises, and the dispositions that a handler may raise.

Exception
└── KafkaeskError
    ├── ConfigurationError            an argument, a setting or an environment variable is wrong
    │   ├── NotConfiguredError        no Kafka servers were given
    │   ├── SubscriptionError         a handler or its subscription cannot work
    ├── PluginError                   a plugin cannot be loaded, or broke its hook's contract
    ├── SchemaError
    │   ├── InvalidSchemaError        a schema is declared in a way that cannot work
    │   ├── SchemaConflictError       one name, two declarations; one topic, two schemas
    │   ├── UnknownSchemaError        no schema has this name
    │   └── InvalidMessageError       the data does not satisfy its schema
    ├── DecodeError                   a record's value is not a message
    ├── HandlerError                  a handler failed, and the application stopped
    ├── HandlerTimeoutError           a handler ran longer than its timeout
    ├── BatchFailure                  some messages of a batch failed, the others are done
    ├── DeliveryError
    │   ├── DeliveryFailedError       certainly not written
    │   │   └── MessageTooLargeError
    │   └── DeliveryUnknownError      may or may not have been written
    ├── BrokerError                   a broker, or the connection to it
    │   ├── BrokerUnreachableError
    │   ├── AuthenticationError
    │   ├── AuthorizationError
    │   └── TopicError                a topic cannot be created or used
    ├── CommitError                   an offset commit was refused or not answered
    ├── UnhealthyError                health_check() found something wrong
    ├── NotRunningError               the application or consumer is not running
    └── ShutdownIncompleteError       it was stopped, but tasks or threads still run

BaseException
└── Disposition                       a handler raises it to decide on its message
    ├── Retry
    ├── Defer
    ├── Skip
    └── Stop
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "BatchFailure",
    "BrokerError",
    "BrokerUnreachableError",
    "CommitError",
    "ConfigurationError",
    "DecodeError",
    "Defer",
    "DeliveryError",
    "DeliveryFailedError",
    "DeliveryUnknownError",
    "Disposition",
    "HandlerError",
    "HandlerTimeoutError",
    "InvalidMessageError",
    "InvalidSchemaError",
    "KafkaeskError",
    "MessageTooLargeError",
    "NotConfiguredError",
    "NotRunningError",
    "PluginError",
    "Retry",
    "SchemaConflictError",
    "SchemaError",
    "ShutdownIncompleteError",
    "Skip",
    "Stop",
    "SubscriptionError",
    "TopicError",
    "UnhealthyError",
    "UnknownSchemaError",
]


class KafkaeskError(Exception):
    """The root of every error of kafkaesk."""

    exit_code: int = 1
    """Exit code of the command: 1 handler, 2 usage, 3 broker, 4 plugin, 5 still running."""


class ConfigurationError(KafkaeskError):
    """An argument, a setting or an environment variable is wrong."""

    exit_code = 2


class NotConfiguredError(ConfigurationError):
    """No Kafka servers were given."""


class SubscriptionError(ConfigurationError):
    """A handler or its subscription cannot work."""


class PluginError(KafkaeskError):
    """A plugin cannot be loaded, or broke the contract of its hook."""

    exit_code = 4

    def __init__(self, message: str, *, plugin: str | None = None, hook: str | None = None) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.hook = hook


class SchemaError(KafkaeskError):
    """An error about a schema; `schema` and `topic` are its names, if known."""

    def __init__(
        self, message: str, *, schema: str | None = None, topic: str | None = None
    ) -> None:
        super().__init__(message)
        self.schema = schema
        self.topic = topic


class InvalidSchemaError(SchemaError):
    """A schema is declared in a way that cannot work."""

    exit_code = 2


class SchemaConflictError(SchemaError):
    """One name with two declarations, or one topic with two schemas."""

    exit_code = 2


class UnknownSchemaError(SchemaError):
    """No schema of this name and version is registered."""


class InvalidMessageError(SchemaError):
    """The data does not satisfy its schema."""


class DecodeError(KafkaeskError):
    """The value of a record is not a message: not JSON, or not an envelope."""


class _RecordError(KafkaeskError):
    """An error about one consumed record, with its coordinates."""

    def __init__(
        self,
        message: str,
        *,
        topic: str,
        partition: int,
        offset: int,
        group: str,
        schema: str | None = None,
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.group = group
        self.schema = schema


class HandlerError(_RecordError):
    """A handler failed and the application stopped; `__cause__` is the handler's error."""


class HandlerTimeoutError(_RecordError):
    """A handler ran longer than its subscription's `timeout_seconds`."""


class BatchFailure(KafkaeskError):
    """Some messages of a batch failed; the others are done.

    `errors` maps each failed message to an exception, on which the subscription's `on_error`
    decides, or to a disposition. A handler names a message by its index in the list that it was
    given; a layer names the message itself.
    """

    def __init__(self, errors: Mapping[Any, BaseException]) -> None:
        if not errors or not all(isinstance(error, BaseException) for error in errors.values()):
            raise ValueError(
                f"BatchFailure({errors!r}) must map indexes of failed messages to exceptions"
            )
        super().__init__(f"{len(errors)} messages of the batch failed")
        self.errors = dict(errors)


class DeliveryError(KafkaeskError):
    """A published message was not acknowledged."""

    def __init__(self, message: str, *, topic: str, partition: int | None = None) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition


class DeliveryFailedError(DeliveryError):
    """The message was certainly not written; publishing it again cannot create a duplicate."""


class MessageTooLargeError(DeliveryFailedError):
    """The message is larger than the producer's or the broker's limit."""


class DeliveryUnknownError(DeliveryError):
    """The broker's answer is missing: the message may or may not have been written."""


class BrokerError(KafkaeskError):
    """A broker, or the connection to it, failed; `retryable`: the same call may succeed later."""

    exit_code = 3
    retryable: ClassVar[bool] = False


class BrokerUnreachableError(BrokerError):
    """No broker answered in time."""

    retryable = True

    def __init__(self, message: str, *, servers: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.servers = tuple(servers)


class AuthenticationError(BrokerError):
    """The broker refused the client's credentials, or the client refused its certificate."""


class AuthorizationError(BrokerError):
    """The broker has authenticated the client, but the request is not authorized."""


class TopicError(BrokerError):
    """A topic cannot be created or used; `code` is Kafka's error code, if it has one."""

    def __init__(self, message: str, *, topic: str, code: int | None = None) -> None:
        super().__init__(message)
        self.topic = topic
        self.code = code


class CommitError(KafkaeskError):
    """An offset commit was refused, or not answered in time."""

    exit_code = 3


class UnhealthyError(KafkaeskError):
    """`health_check()` found problems; `reasons` lists them."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class NotRunningError(KafkaeskError):
    """The application or the consumer is not running."""


class ShutdownIncompleteError(KafkaeskError):
    """The application was stopped, but tasks or threads still run; `still_running` lists them."""

    exit_code = 5

    def __init__(self, still_running: Sequence[str]) -> None:
        super().__init__(
            f"the application has stopped, but {'; '.join(still_running)}; let handlers end when "
            "they are cancelled, and blocking calls within shutdown_timeout"
        )
        self.still_running = tuple(still_running)


class Disposition(BaseException):
    """A decision on a message, raised by its handler or by a layer around it.

    It derives from BaseException, as CancelledError does, so that `except Exception` does not catch
    it.
    """


_LONGEST_WAIT = 10 * 365 * 86_400.0
"""Seconds. A number above it is a moment in seconds since 1970, not a time from now."""


class Retry(Disposition):
    """Handle this message again after `delay` seconds.

    The message's lane (partition, key or record, by the subscription's ordering) waits; other lanes
    continue.
    """

    def __init__(self, reason: str = "", *, delay: float = 1.0) -> None:
        is_number = isinstance(delay, (int, float)) and not isinstance(delay, bool)
        if not (is_number and 0 <= delay < math.inf):
            raise ValueError(f"Retry(delay={delay!r}) must be a number of seconds, 0 or more")
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


class Defer(Disposition):
    """Handle this message later: it came too early, which is not a failure.

    `until` is a datetime with a time zone, or a number of seconds from now. The message's lane
    (partition, key or record, by the subscription's ordering) waits until then; other lanes
    continue. The attempt does not count, and nothing is logged.
    """

    def __init__(self, until: datetime | float, reason: str = "") -> None:
        if isinstance(until, datetime):
            is_valid = until.utcoffset() is not None
        else:
            is_number = isinstance(until, (int, float)) and not isinstance(until, bool)
            is_valid = is_number and 0 <= until < math.inf
        if not is_valid:
            raise ValueError(
                f"Defer(until={until!r}) must be a datetime with a time zone, or a number of "
                "seconds from now, 0 or more"
            )
        if not isinstance(until, datetime) and until > _LONGEST_WAIT:
            raise ValueError(
                f"Defer(until={until!r}) waits for {until / 86_400 / 365:.0f} years: a number is "
                "seconds from now; for a moment, pass a datetime with a time zone"
            )
        super().__init__(reason)
        self.until = until
        self.reason = reason

    @property
    def delay(self) -> float:
        """The seconds from now until the message is handled again."""
        if isinstance(self.until, datetime):
            return max((self.until - datetime.now(UTC)).total_seconds(), 0.0)
        return self.until


class Skip(Disposition):
    """Treat this message as done without handling it; the skip is logged and counted."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Stop(Disposition):
    """Leave this message unhandled and stop the application: drain, commit, exit non-zero."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

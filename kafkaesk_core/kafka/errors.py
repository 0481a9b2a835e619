"""The meaning of aiokafka's errors: their classes in this library, and whether to retry.

Codes: https://kafka.apache.org/protocol.html#protocol_error_codes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

import aiokafka.errors as kafka

from kafkaesk_core.errors import (
    AuthenticationError,
    AuthorizationError,
    BrokerError,
    BrokerUnreachableError,
    CommitError,
    KafkaeskError,
    MessageTooLargeError,
    TopicError,
)

__all__ = [
    "TABLE",
    "ProduceErrorKind",
    "classify_produce_error",
    "explain",
    "is_retryable",
    "is_too_large",
    "known_errors",
    "translate",
]

# Not errors of the caller's request: the cluster, or the connection to it, cannot serve it now.
_UNREACHABLE = (
    kafka.BrokerNotAvailableError,
    kafka.Cancelled,
    kafka.ConcurrentTransactions,
    kafka.CorrelationIdError,
    kafka.FetchSessionIdNotFound,
    kafka.GroupCoordinatorNotAvailableError,
    kafka.GroupLoadInProgressError,
    kafka.InvalidFetchSessionEpoch,
    kafka.KafkaConnectionError,
    kafka.KafkaProtocolError,
    kafka.KafkaStorageError,
    kafka.KafkaTimeoutError,
    kafka.KafkaUnavailableError,
    kafka.LeaderNotAvailableError,
    kafka.ListenerNotFound,
    kafka.MetadataEmptyBrokerList,
    kafka.NoBrokersAvailable,
    kafka.NodeNotReadyError,
    kafka.NotControllerError,
    kafka.NotCoordinatorForGroupError,
    kafka.NotEnoughReplicasAfterAppendError,
    kafka.NotEnoughReplicasError,
    kafka.NotLeaderForPartitionError,
    kafka.ReplicaNotAvailableError,
    kafka.RequestTimedOutError,
    kafka.StaleControllerEpochError,
    kafka.StaleLeaderEpochCodeError,
    kafka.StaleMetadata,
    kafka.TooManyInFlightRequests,
)
_AUTHENTICATION = (
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.DelegationTokenExpired,
    kafka.DelegationTokenNotFound,
    kafka.IllegalSaslStateError,
    kafka.InvalidPrincipalType,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
)
_AUTHORIZATION = (
    kafka.ClusterAuthorizationFailedError,
    kafka.DelegationTokenAuthDisabled,
    kafka.DelegationTokenAuthorizationFailed,
    kafka.DelegationTokenOwnerMismatch,
    kafka.DelegationTokenRequestNotAllowed,
    kafka.GroupAuthorizationFailedError,
    kafka.TopicAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)
_TOPIC = (
    kafka.InvalidConfigurationError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationAssignmentError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidTopicError,
    kafka.PolicyViolationError,
    kafka.TopicAlreadyExistsError,
    kafka.UnknownTopicOrPartitionError,
)
_COMMIT = (
    kafka.CommitFailedError,
    kafka.IllegalGenerationError,
    kafka.InvalidCommitOffsetSizeError,
    kafka.OffsetMetadataTooLargeError,
    kafka.RebalanceInProgressError,
    kafka.UnknownMemberIdError,
)
_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
# Not the caller's fault: this library uses the client or the protocol wrongly.
_OTHER = (
    kafka.BrokerResponseError,
    kafka.CorruptRecordException,
    kafka.DuplicateSequenceNumber,
    kafka.GroupIdNotFound,
    kafka.IllegalArgumentError,
    kafka.IllegalStateError,
    kafka.IncompatibleBrokerVersion,
    kafka.InconsistentGroupProtocolError,
    kafka.InvalidFetchRequestError,
    kafka.InvalidGroupIdError,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.InvalidRequestError,
    kafka.InvalidRequiredAcksError,
    kafka.InvalidSessionTimeoutError,
    kafka.InvalidTimestampError,
    kafka.InvalidTransactionTimeout,
    kafka.InvalidTxnState,
    kafka.KafkaConfigurationError,
    kafka.KafkaError,
    kafka.LogDirNotFound,
    kafka.MemberIdRequired,
    kafka.NoError,
    kafka.NoOffsetForPartitionError,
    kafka.NonEmptyGroup,
    kafka.OffsetOutOfRangeError,
    kafka.OperationNotAttempted,
    kafka.OutOfOrderSequenceNumber,
    kafka.ProducerClosed,
    kafka.ProducerFenced,
    kafka.QuotaViolationError,
    kafka.ReassignmentInProgress,
    kafka.RecordTooLargeError,
    kafka.SecurityDisabled,
    kafka.TransactionCoordinatorFenced,
    kafka.UnknownError,
    kafka.UnknownProducerId,
    kafka.UnrecognizedBrokerVersion,
    kafka.UnsupportedCodecError,
    kafka.UnsupportedForMessageFormatError,
    kafka.UnsupportedVersionError,
)

TABLE: dict[type[Exception], type[KafkaeskError]] = {
    **dict.fromkeys(_UNREACHABLE, BrokerUnreachableError),
    **dict.fromkeys(_AUTHENTICATION, AuthenticationError),
    **dict.fromkeys(_AUTHORIZATION, AuthorizationError),
    **dict.fromkeys(_TOPIC, TopicError),
    **dict.fromkeys(_COMMIT, CommitError),
    **dict.fromkeys(_TOO_LARGE, MessageTooLargeError),
    **dict.fromkeys(_OTHER, BrokerError),
}
"""Maps aiokafka's classes to ours. BrokerUnreachableError is the retryable one."""


def known_errors() -> Iterator[type[Exception]]:
    """Yield every error class that aiokafka has."""
    todo: list[type[Exception]] = [kafka.KafkaError]
    while todo:
        error = todo.pop()
        yield error
        todo.extend(error.__subclasses__())


def kind_of(error: BaseException) -> type[KafkaeskError]:
    """Return this library's class for an error of aiokafka."""
    if isinstance(error, (OSError, TimeoutError)):
        return BrokerUnreachableError
    return TABLE.get(type(error), BrokerError) if isinstance(error, Exception) else BrokerError


def is_retryable(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, BrokerError):
        return error.retryable
    if isinstance(error, kafka.KafkaError):
        return kind_of(error) is BrokerUnreachableError or bool(error.retriable)
    return isinstance(error, (OSError, TimeoutError))


def explain(error: BaseException) -> str:
    """Return one line about an error of aiokafka: its class, Kafka's code and its text."""
    text = error.args[0].strip() if error.args and isinstance(error.args[0], str) else ""
    code = getattr(error, "errno", None)
    is_answer = isinstance(error, kafka.BrokerResponseError)
    name = type(error).__name__ + (f" (Kafka's code {code})" if is_answer else "")
    return f"{name}: {text}" if text else name


def translate(
    error: BaseException,
    attempted: str,
    *,
    topic: str | None = None,
    servers: Sequence[str] = (),
) -> KafkaeskError:
    """Return this library's error for a foreign one; the caller raises it `from` the original.

    `attempted` begins the message, as in "creating topic orders". The error keeps `topic`, and
    `servers` as "host:port".
    """
    message = f"{attempted} failed: {explain(error)}"
    if isinstance(error, kafka.IncompatibleBrokerVersion):
        message += (
            "; the broker does not take this request, as that of embedded:// does not; "
            "name a cluster of Apache Kafka"
        )
    kind = kind_of(error)
    if issubclass(kind, BrokerUnreachableError):
        return kind(message, servers=servers)
    if issubclass(kind, TopicError):
        code = getattr(error, "errno", None)
        return kind(message, topic=topic, code=code) if topic else BrokerError(message)
    if issubclass(kind, MessageTooLargeError):
        return kind(message, topic=topic or "")
    return kind(message)


class ProduceErrorKind(Enum):
    """Whether the records of a failed batch were written, and the next step."""

    REFUSED = "not written, and refused again if sent again"
    CULPRIT = "not written because of one record; the others may be written without it"
    AGAIN = "not written; may be sent again"
    RENEW = "not written; this producer cannot write to the partition any more"
    UNKNOWN = "may have been written"


_PRODUCE_ERRORS: dict[type[Exception], ProduceErrorKind] = {
    kafka.InvalidTimestampError: ProduceErrorKind.CULPRIT,
    kafka.MessageSizeTooLargeError: ProduceErrorKind.CULPRIT,
    kafka.RecordListTooLargeError: ProduceErrorKind.CULPRIT,
    kafka.ClusterAuthorizationFailedError: ProduceErrorKind.REFUSED,
    kafka.InvalidRequiredAcksError: ProduceErrorKind.REFUSED,
    kafka.InvalidTopicError: ProduceErrorKind.REFUSED,
    kafka.TopicAuthorizationFailedError: ProduceErrorKind.REFUSED,
    kafka.UnsupportedForMessageFormatError: ProduceErrorKind.REFUSED,
    kafka.UnsupportedVersionError: ProduceErrorKind.REFUSED,
    kafka.CorruptRecordException: ProduceErrorKind.AGAIN,
    # A first attempt ends with these two only by aiokafka's own expiry: no leader was ever known.
    kafka.LeaderNotAvailableError: ProduceErrorKind.AGAIN,
    kafka.NotLeaderForPartitionError: ProduceErrorKind.AGAIN,
    kafka.NodeNotReadyError: ProduceErrorKind.AGAIN,
    kafka.NotEnoughReplicasError: ProduceErrorKind.AGAIN,
    kafka.UnknownTopicOrPartitionError: ProduceErrorKind.AGAIN,
    kafka.InvalidProducerIdMapping: ProduceErrorKind.RENEW,
    kafka.OutOfOrderSequenceNumber: ProduceErrorKind.RENEW,
    kafka.ProducerFenced: ProduceErrorKind.RENEW,
    kafka.UnknownProducerId: ProduceErrorKind.RENEW,
}


def classify_produce_error(error: Exception, attempts: int) -> ProduceErrorKind:
    """Classify the error of a batch that aiokafka put into `attempts` produce requests.

    aiokafka resends by itself and keeps only the last answer. An earlier attempt may have been
    written, so "not written" is certain only after a single attempt. A batch that is too large was
    too large in every attempt.
    """
    if attempts == 0:
        return ProduceErrorKind.AGAIN
    found = _PRODUCE_ERRORS.get(type(error), ProduceErrorKind.UNKNOWN)
    return found if attempts == 1 or is_too_large(error) else ProduceErrorKind.UNKNOWN


def is_too_large(error: Exception) -> bool:
    """Return whether a batch was refused for its size."""
    return isinstance(error, (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError))

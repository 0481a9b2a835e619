"""What a failed batch means for its records and for the producer."""

from __future__ import annotations

from enum import Enum

import aiokafka.errors as kafka

__all__ = ["Failure", "is_too_large", "judge"]


class Failure(Enum):
    """Whether the records of a failed batch were written, and what comes next."""

    REFUSED = "not written, and refused again if sent again"
    CULPRIT = "not written because of one record; the others may be written without it"
    AGAIN = "not written; may be sent again"
    RENEW = "not written; this producer cannot write to the partition any more"
    UNKNOWN = "may have been written"


_FAILURES: dict[type[Exception], Failure] = {
    kafka.InvalidTimestampError: Failure.CULPRIT,
    kafka.MessageSizeTooLargeError: Failure.CULPRIT,
    kafka.RecordListTooLargeError: Failure.CULPRIT,
    kafka.ClusterAuthorizationFailedError: Failure.REFUSED,
    kafka.InvalidRequiredAcksError: Failure.REFUSED,
    kafka.InvalidTopicError: Failure.REFUSED,
    kafka.TopicAuthorizationFailedError: Failure.REFUSED,
    kafka.UnsupportedForMessageFormatError: Failure.REFUSED,
    kafka.UnsupportedVersionError: Failure.REFUSED,
    kafka.CorruptRecordException: Failure.AGAIN,
    # A first attempt ends with these two only by aiokafka's own expiry: no leader was ever known.
    kafka.LeaderNotAvailableError: Failure.AGAIN,
    kafka.NotLeaderForPartitionError: Failure.AGAIN,
    kafka.NodeNotReadyError: Failure.AGAIN,
    kafka.NotEnoughReplicasError: Failure.AGAIN,
    kafka.UnknownTopicOrPartitionError: Failure.AGAIN,
    kafka.InvalidProducerIdMapping: Failure.RENEW,
    kafka.OutOfOrderSequenceNumber: Failure.RENEW,
    kafka.ProducerFenced: Failure.RENEW,
    kafka.UnknownProducerId: Failure.RENEW,
}


def judge(error: Exception, attempts: int) -> Failure:
    """Judge the error of a batch that aiokafka put into `attempts` produce requests.

    aiokafka sends again by itself and keeps the last answer only. An earlier attempt may have
    been written, so an answer that says "not written" is certain for a first attempt alone; only
    a batch that is too large was too large in every attempt.
    """
    if attempts == 0:
        return Failure.AGAIN
    found = _FAILURES.get(type(error), Failure.UNKNOWN)
    return found if attempts == 1 or is_too_large(error) else Failure.UNKNOWN


def is_too_large(error: Exception) -> bool:
    """Say whether a batch was refused for its size."""
    return isinstance(error, (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError))

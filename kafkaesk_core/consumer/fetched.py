"""Records on their way to a handler: what they have in common, and the message of each attempt."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.errors import DecodeError
from kafkaesk_core.message import IncomingMessage, ParsedRecord, Unreadable, consumer_record

__all__ = ["FetchedBatch", "FetchedMessage", "Holding", "UnreadableMessage"]


class Holding:
    """The records of one partition that wait or run, in one time of owning it.

    `size` is how many bytes they take, roughly. `is_released` says that they are redelivered,
    here or elsewhere, whatever becomes of them: their errors no longer matter.
    """

    __slots__ = ("is_released", "size")

    def __init__(self) -> None:
        self.size = 0.0
        self.is_released = False


class FetchedBatch:
    """What records have in common that were taken together.

    `epoch` is the one in which their partition delivered them, `finish` closes their offsets in
    it; `room` is what each of them takes of the `holding`, on average, in bytes.
    """

    __slots__ = ("epoch", "finish", "holding", "partition", "room", "stream")

    def __init__(
        self,
        partition: TopicPartition,
        epoch: int,
        stream: str,
        *,
        finish: Callable[[int], bool],
        holding: Holding,
        room: float,
    ) -> None:
        self.partition = partition
        self.epoch = epoch
        self.stream = stream
        self.finish = finish
        self.holding = holding
        self.room = room


class FetchedMessage(IncomingMessage):
    """A record to be handled: the message of one attempt, and the batch that it came with.

    Layers may change the message, so each attempt has its own. A lane keeps the first one,
    whose `current_attempt` is the message of the present attempt, once that is a later one.
    """

    __slots__ = ("batch", "current_attempt", "offset")

    offset: int  # an attribute here, for it is read for each record

    def __init__(self, record: ParsedRecord, batch: FetchedBatch, attempt: int = 1) -> None:
        # As the class above does, without calling it: this is made for each record.
        self._record = record
        self.offset = record.offset
        self.value = record.value
        self.stream = batch.stream
        self.epoch = batch.epoch
        self.attempt = attempt
        self.is_closed = False
        self.turn = "waits"
        self.known_schema = None
        self._meta = None
        self.batch = batch
        self.current_attempt: FetchedMessage | None = None

    @property
    def record(self) -> ConsumerRecord:
        """The record as aiokafka hands it out; made when it is first asked for."""
        record = self._record = consumer_record(self.batch.partition, self._record)
        return record

    @property
    def topic(self) -> str:
        """The topic's name, with the prefix."""
        return self.batch.partition.topic  # type: ignore[no-any-return]  # aiokafka is untyped

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self.batch.partition.partition  # type: ignore[no-any-return]  # aiokafka is untyped

    def begin_attempt_after(self, message: FetchedMessage) -> None:
        """Note that the attempt with this message is over and another one is to come."""
        self.current_attempt = type(self)(self._record, self.batch, message.attempt + 1)
        self.current_attempt.is_closed = message.is_closed  # by the handler itself


class UnreadableMessage(FetchedMessage):
    """The place of a record that cannot be read: its handling fails where it is decoded."""

    __slots__ = ()

    @property
    def value(self) -> bytes | None:
        """Never there.

        Raises:
            DecodeError: why the record cannot be read.
            Stop: it could be with a library that is not installed.
        """
        assert isinstance(self._record, Unreadable)
        raise self._record.error

    @value.setter
    def value(self, value: bytes | None) -> None:
        """Nothing can be put in its place."""

    @property
    def record(self) -> ConsumerRecord:
        """Not there either, as `value`."""
        return self.value

    def _parse_schema(self) -> str:
        raise DecodeError(f"{self.topic}[{self.partition}]@{self.offset} cannot be read")

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970, where they could be read, else 0."""
        return self._record.timestamp or 0

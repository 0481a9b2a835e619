"""Records on their way to a handler: their shared data, and the message of each attempt.

Records wait in the form in which they were fetched. A message is created only when something needs
it: a layer, an argument of the handler, a failure, or a retry.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.errors import DecodeError
from kafkaesk_core.message import IncomingMessage, ParsedRecord, Unreadable
from kafkaesk_core.offsets import HandlerResult

from .attempts import Attempts

__all__ = [
    "FetchedBatch",
    "FetchedMessage",
    "FetchedRecord",
    "Holding",
    "NotDueError",
    "NotedBatch",
    "UnreadableMessage",
    "consumer_record",
]


class Holding:
    """The waiting and running records of one partition, for as long as this member owns it.

    `size` is their approximate size in bytes. `is_released` says that they will be redelivered,
    here or elsewhere, so their errors no longer matter. `attempts` are the attempts that commits
    store; None if commits store none.
    """

    __slots__ = ("attempts", "is_released", "size")

    def __init__(self, attempts: Attempts | None = None) -> None:
        self.attempts = attempts
        self.size = 0.0
        self.is_released = False


class FetchedBatch:
    """The shared data of records that were fetched together.

    `epoch` is the epoch in which they were delivered, and `finish` closes their offsets in it.
    `room` is the average number of bytes that a record takes of the `holding`. `messages` has the
    messages of later attempts, by offset; None if every record is still as it was fetched.
    """

    __slots__ = ("epoch", "finish", "holding", "messages", "partition", "room", "stream")

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
        self.messages: dict[int, FetchedMessage] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether every record is still as it was fetched, without a kept message."""
        return self.messages is None

    def message_of(self, record: ParsedRecord) -> FetchedMessage:
        """The message of a record's present attempt."""
        if self.messages is not None and record.offset in self.messages:
            return self.messages[record.offset]
        return FetchedMessage(record, self)

    def keep(self, message: FetchedMessage) -> None:
        """Keep a message until its record is handled."""
        if self.messages is None:
            self.messages = {}
        self.messages[message.offset] = message


class NotDueError(Exception):
    """A record was reached before its due time; it waits for this many more seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class NotedBatch(FetchedBatch):
    """Records that the note of the last commit mentions; some wait for a retry or a due time.

    `due` has the end of each wait, by offset, on the monotonic clock. The messages are kept with
    their attempts. A record waits once it is at the head of its lane, because unfinished records
    before it are redelivered first.
    """

    __slots__ = ("due",)

    due: dict[int, float]

    def message_of(self, record: ParsedRecord) -> FetchedMessage:
        """The message of a record's present attempt.

        Raises:
            NotDueError: the record still waits for that attempt.
        """
        due = self.due.get(record.offset)
        if due is not None:
            left = due - monotonic()
            if left > 0:
                raise NotDueError(left)
            del self.due[record.offset]
        return super().message_of(record)


FetchedRecord = tuple[int, ParsedRecord, FetchedBatch]
"""A waiting record: its offset, the record, and the batch in which it was fetched."""


class FetchedMessage(IncomingMessage):
    """A record to handle: the message of one attempt, with the batch in which it was fetched.

    Layers may change the message, so each attempt gets a new one.
    """

    __slots__ = ("batch", "offset")

    offset: int  # an attribute and not a property: it is read for each record

    def __init__(self, record: ParsedRecord, batch: FetchedBatch, attempt: int = 1) -> None:
        # The same as in the base class, without a call: an object is made for each record.
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

    @property
    def record(self) -> ConsumerRecord:
        """The record in aiokafka's form, created on first access."""
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

    @property
    def crashes(self) -> int:
        """How many attempts ended in a crash of the process; counted if `count_crashes` is on."""
        attempts = self.batch.holding.attempts
        return 0 if attempts is None else attempts.crashes(self.offset)

    def begin_next_attempt(self, result: HandlerResult) -> None:
        """Keep the message of the next attempt; a deferral does not count as an attempt."""
        attempt = self.attempt + (result.kind != "defer")
        message = type(self)(self._record, self.batch, attempt)
        message.is_closed = self.is_closed  # by the handler itself
        self.batch.keep(message)
        if (attempts := self.batch.holding.attempts) is not None:
            attempts.wait(self.offset, attempt, result.delay)


class UnreadableMessage(FetchedMessage):
    """Stands for a record that cannot be read: decoding it fails."""

    __slots__ = ()

    @property
    def value(self) -> bytes | None:
        """Always raise.

        Raises:
            DecodeError: the record cannot be read; the error says why. Stop: reading the record
                requires a library that is not installed.
        """
        assert isinstance(self._record, Unreadable)
        raise self._record.error

    @value.setter
    def value(self, value: bytes | None) -> None:
        """Ignore the new value: an unreadable record cannot be given one."""

    @property
    def record(self) -> ConsumerRecord:
        """Always raise, as `value` does."""
        return self.value

    def _parse_schema(self) -> str:
        raise DecodeError(f"{self.topic}[{self.partition}]@{self.offset} cannot be read")

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970; 0 if the timestamp cannot be read."""
        return self._record.timestamp or 0


def consumer_record(partition: TopicPartition, parsed: ParsedRecord) -> ConsumerRecord:
    """Return a record of this partition in aiokafka's form."""
    if isinstance(parsed, ConsumerRecord):
        return parsed
    key, value = parsed.key, parsed.value
    return ConsumerRecord(
        partition.topic,
        partition.partition,
        parsed.offset,
        parsed.timestamp,
        parsed.timestamp_type,
        key,
        value,
        parsed.checksum,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        tuple(parsed.headers),
    )

"""One record on its way through the lanes."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.message import IncomingMessage

__all__ = ["Buffered", "Job", "Portion"]


class Buffered:
    """How many bytes the records of one partition take that wait or run, roughly."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0.0


class Portion:
    """What records have in common that were taken together.

    `epoch` is the one in which their partition delivered them; `room` is what each of them takes
    of what is `buffered`, on average, in bytes.
    """

    __slots__ = ("buffered", "epoch", "partition", "room", "stream")

    def __init__(
        self,
        partition: TopicPartition,
        epoch: int,
        stream: str,
        *,
        buffered: Buffered,
        room: float,
    ) -> None:
        self.partition = partition
        self.epoch = epoch
        self.stream = stream
        self.buffered = buffered
        self.room = room


class Job:
    """A record to be handled, and the portion that it came with."""

    __slots__ = ("attempt", "is_closed", "portion", "record")

    def __init__(self, record: ConsumerRecord, portion: Portion) -> None:
        self.record = record
        self.portion = portion
        self.attempt = 1
        self.is_closed = False  # by the handler itself, in an attempt before

    def message(self) -> IncomingMessage:
        """The record as layers and the handler see it, in this attempt."""
        portion = self.portion
        message = IncomingMessage(self.record, portion.stream, self.attempt, portion.epoch)
        message.is_closed = self.is_closed
        return message

    def failed(self, message: IncomingMessage) -> None:
        """Note that this attempt is over and another one is to come."""
        self.attempt += 1
        self.is_closed = message.is_closed

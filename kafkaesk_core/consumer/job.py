"""One record on its way through the lanes."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.message import IncomingMessage

__all__ = ["Job"]


class Job:
    """A record to be handled, with the epoch in which its partition delivered it."""

    __slots__ = ("attempt", "epoch", "is_closed", "partition", "record", "size", "stream")

    def __init__(
        self, record: ConsumerRecord, partition: TopicPartition, epoch: int, stream: str, size: int
    ) -> None:
        self.record = record
        self.partition = partition
        self.epoch = epoch
        self.stream = stream
        self.size = size
        self.attempt = 1
        self.is_closed = False  # by the handler itself, in an attempt before

    def message(self) -> IncomingMessage:
        """The record as layers and the handler see it, in this attempt."""
        message = IncomingMessage(self.record, self.stream, attempt=self.attempt, epoch=self.epoch)
        message.is_closed = self.is_closed
        return message

    def failed(self, message: IncomingMessage) -> None:
        """Note that this attempt is over and another one is to come."""
        self.attempt += 1
        self.is_closed = message.is_closed

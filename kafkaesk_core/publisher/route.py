"""From a message to one of its topic's partitions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import DeliveryFailedError, MessageTooLargeError
from kafkaesk_core.kafka.records import record_bytes
from kafkaesk_core.message import OutgoingMessage
from kafkaesk_core.schema.registry import SchemaRegistration
from kafkaesk_core.topic_setup import TopicFacts

from .desk import Desk
from .line import Line
from .outbox import Outbox
from .transport import ProducerLike

__all__ = ["Route"]

_CACHED_KEYS = 10_000
_CANDIDATES = 3
_TOPIC_LIMIT = "the topic's max.message.bytes"


class Route:
    """One topic's partitions, and how a message gets its own.

    Keyless messages stay with one partition until its batch is sealed, and then take the least
    busy of a few; keyed ones go where the partitioner says. While the topic is not known to exist
    (`is_ready` is False) messages wait in `line`; `is_open` says that nobody does.
    """

    __slots__ = (
        "_by_key",
        "_desk",
        "_partitions",
        "_sticky",
        "is_compacted",
        "is_open",
        "is_ready",
        "limits_at",
        "line",
        "max_bytes",
        "max_bytes_setting",
        "missed",
        "opening",
        "outboxes",
        "registration",
        "topic",
        "trouble",
    )

    def __init__(self, topic: str, desk: Desk) -> None:
        self.topic = topic
        self.is_ready = False
        self.is_open = False
        self.line = Line()
        self.opening: asyncio.Task[None] | None = None
        self.registration: SchemaRegistration | None = None
        self.trouble: Exception | None = None
        self.missed = 0
        self.is_compacted = False
        self.limits_at = 0.0
        self.max_bytes = 0
        self.max_bytes_setting = ""
        self.outboxes: dict[int, Outbox] = {}
        self._desk = desk
        self._partitions: Sequence[int] = ()
        self._by_key: dict[bytes, Outbox] = {}
        self._sticky: Outbox | None = None

    @property
    def is_busy(self) -> bool:
        """Say whether there are messages that wait, or are not settled."""
        return bool(self.line) or any(o.oldest is not None for o in self.outboxes.values())

    def set_partitions(self, partitions: Sequence[int]) -> None:
        """Note the topic's partitions; if they changed, keys are distributed anew."""
        if partitions != self._partitions:
            self._partitions = partitions
            self._by_key.clear()
            self._sticky = None

    def set_limits(self, producer: ProducerLike, facts: TopicFacts | None) -> None:
        """Note how large a message may be; a topic's limit holds after compression."""
        self.limits_at = asyncio.get_running_loop().time()
        self.max_bytes, self.max_bytes_setting = producer.max_request_size, "max_request_size"
        if facts is None:
            return
        self.is_compacted = facts.is_compacted
        limit = facts.max_message_bytes
        if limit is not None and limit < self.max_bytes and not producer.is_compressing:
            self.max_bytes, self.max_bytes_setting = limit, _TOPIC_LIMIT

    def check_size(self, message: OutgoingMessage, value: bytes | None) -> None:
        """Refuse what the producer or the topic would: nothing else looks before it is sent.

        Raises:
            MessageTooLargeError: with the size, the limit, and the setting that it comes from.
        """
        size = record_bytes(message.key, value, message.headers)
        if size > self.max_bytes:
            raise MessageTooLargeError(
                f"a message of {size} bytes to {self.topic} is larger than "
                f"{self.max_bytes_setting}, {self.max_bytes} bytes; raise that, or publish less",
                topic=self.topic,
            )

    def outbox_for(
        self, key: bytes | None, partition: int | None, producer: ProducerLike
    ) -> Outbox:
        """Return the outbox of the partition that a message goes to.

        Raises:
            DeliveryFailedError: there is no such partition, or the topic needs a key.
        """
        if partition is not None:
            return self._check(partition)
        found = self._sticky if key is None else self._by_key.get(key)
        if found is not None:
            return found
        if not producer.is_sticky:
            return self._outbox(self._ask(key, producer))
        return self._stick(producer) if key is None else self._remember(key, producer)

    def _check(self, partition: int) -> Outbox:
        if partition not in self._partitions:
            count = len(self._partitions)
            raise DeliveryFailedError(
                f"topic {self.topic} has no partition {partition}: it has {count}, from 0",
                topic=self.topic,
                partition=partition,
            )
        return self._outbox(partition)

    def _remember(self, key: bytes, producer: ProducerLike) -> Outbox:
        if len(self._by_key) >= _CACHED_KEYS:
            self._by_key.clear()
        outbox = self._outbox(self._ask(key, producer))
        self._by_key[key] = outbox
        return outbox

    def _stick(self, producer: ProducerLike) -> Outbox:
        if self.is_compacted:
            # The broker's answer (87) is unknown to aiokafka, and would cost a new producer.
            raise DeliveryFailedError(
                f"topic {self.topic} is compacted, so each of its messages needs a key; "
                "publish with key=, or remove compact from the topic's cleanup.policy",
                topic=self.topic,
            )
        available = producer.available_partitions(self.topic) or self._partitions
        candidates = random.sample(available, min(_CANDIDATES, len(available)))
        self._sticky = min(map(self._outbox, candidates), key=lambda outbox: outbox.backlog)
        return self._sticky

    def _ask(self, key: bytes | None, producer: ProducerLike) -> int:
        available = producer.available_partitions(self.topic)
        return producer.partition_for(key, self._partitions, available)

    def _unstick(self, outbox: Outbox) -> None:
        if self._sticky is outbox:
            self._sticky = None

    def _outbox(self, partition: int) -> Outbox:
        outbox = self.outboxes.get(partition)
        if outbox is None:
            place = TopicPartition(self.topic, partition)
            outbox = self.outboxes[partition] = Outbox(place, self._desk, self._unstick)
        return outbox

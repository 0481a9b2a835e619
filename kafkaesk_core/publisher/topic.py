"""The topics that a publisher writes to: their limits, and the partition of each message."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence

import aiokafka.errors as kafka

from kafkaesk_core.errors import DeliveryFailedError, MessageTooLargeError, NotRunningError
from kafkaesk_core.kafka.errors import is_retryable, translate
from kafkaesk_core.kafka.producer import Producer, record_bytes
from kafkaesk_core.message import OutgoingMessage
from kafkaesk_core.schema.registry import SchemaRegistration
from kafkaesk_core.structs import TopicPartition
from kafkaesk_core.tasks import start_detached
from kafkaesk_core.topics import TopicFacts, Topics

from .batch import BatchSettler
from .partition import PartitionQueue
from .send_buffer import WaitQueue

__all__ = ["TopicWriter", "TopicWriters"]

logger = logging.getLogger("kafkaesk.publisher")

_CACHED_KEYS = 10_000
_CANDIDATES = 3
_TOPIC_LIMIT = "the topic's max.message.bytes"
_PAUSE_SECONDS = 0.5
_LIMITS_SECONDS = 10.0  # before the limit of a topic that a message exceeds is looked up again
_MISSED_TO_BE_GONE = 2  # metadata refreshes in a row without the topic


class TopicWriters:
    """A publisher's topic writers: opened on first use, closed when the topic is deleted."""

    def __init__(self, topics: Topics, settler: BatchSettler) -> None:
        self._topics = topics
        self._settler = settler
        self._writers: dict[str, TopicWriter] = {}
        self.get = self._writers.get

    def __iter__(self) -> Iterator[TopicWriter]:
        return iter(self._writers.values())

    async def admit(
        self, topic: str, registration: SchemaRegistration | None, timeout: float
    ) -> TopicWriter:
        """Return the topic's writer once it is ready, in the order of the calls.

        Raises:
            KafkaeskError: the topic cannot be used; the error says why.
            DeliveryFailedError: the topic was not ready within `timeout` seconds.
        """
        writer = self._writers.get(topic)
        if writer is None:
            writer = self._writers[topic] = TopicWriter(topic, self._settler)
        if not writer.is_ready:
            writer.registration = registration
            self._open(writer)
        try:
            await writer.waiting.wait(0, timeout)
        except TimeoutError as error:
            raise DeliveryFailedError(
                f"publishing to {topic} failed after {timeout:g} seconds: "
                f"the topic was not ready ({writer.trouble or 'no answer'})",
                topic=topic,
            ) from error
        finally:
            self._after_admission(writer)
        return writer

    def check_size(
        self, writer: TopicWriter, message: OutgoingMessage, value: bytes | None
    ) -> None:
        """Refuse a message that is too large, and look up the topic's limit again in a task.

        Raises:
            MessageTooLargeError: with the size, the limit, and the setting that it comes from.
        """
        try:
            writer.check_size(message, value)
        except MessageTooLargeError:
            now = asyncio.get_running_loop().time()
            if writer.opening is None and now - writer.limits_at > _LIMITS_SECONDS:
                work = self._renew_limits(writer)
                writer.opening = start_detached(work)
            raise

    def refresh(self) -> None:
        """Compare the writers with the producer's metadata."""
        session = self._settler.supervisor.session
        for writer in self._writers.values():
            if session is None or not writer.is_ready:
                continue
            partitions = session.producer.known_partitions(writer.topic)
            if partitions:
                writer.missed = 0
                writer.set_partitions(partitions)
            elif partitions is not None:
                writer.missed += 1
                if writer.missed >= _MISSED_TO_BE_GONE:
                    self._note_deleted(writer)

    async def stop(self) -> None:
        """Refuse the waiting messages, and cancel the tasks."""
        tasks = [writer.opening for writer in self if writer.opening is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for writer in self:
            writer.is_ready = writer.is_open = False
            writer.waiting.refuse(NotRunningError("the publisher was stopped"))

    def _after_admission(self, writer: TopicWriter) -> None:
        if writer.is_ready:
            writer.waiting.admit()  # also messages that arrived meanwhile
            writer.is_open = not writer.waiting

    def _note_deleted(self, writer: TopicWriter) -> None:
        """Close the writer of a topic that was deleted."""
        writer.is_ready = writer.is_open = False
        writer.missed = 0
        self._topics.invalidate(writer.topic)
        if writer.is_busy:
            self._open(writer)

    def _open(self, writer: TopicWriter) -> None:
        if writer.opening is None:
            work = self._make_ready(writer)
            writer.opening = start_detached(work)

    async def _make_ready(self, writer: TopicWriter) -> None:
        try:
            while not writer.is_ready:
                await self._try(writer)
        except Exception as error:
            writer.waiting.refuse(_translate(error, writer.topic))
        finally:
            writer.opening = None
        self._after_admission(writer)

    async def _try(self, writer: TopicWriter) -> None:
        try:
            await self._topics.ensure(writer.topic, writer.registration)
            session = await self._settler.supervisor.wait_for_session()
            writer.set_partitions(await session.producer.partitions(writer.topic))
            writer.set_limits(session.producer, self._topics.facts(writer.topic))
            writer.is_ready = True
        except Exception as error:
            error.__traceback__ = None
            writer.trouble = error
            if not is_retryable(error) or not writer.is_busy:
                raise
            if isinstance(error, kafka.UnknownTopicOrPartitionError):
                self._topics.invalidate(writer.topic)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _renew_limits(self, writer: TopicWriter) -> None:
        try:
            self._topics.invalidate(writer.topic)
            await self._topics.ensure(writer.topic, writer.registration)
            writer.set_limits(self._settler.supervisor.producer, self._topics.facts(writer.topic))
        except Exception:
            logger.warning("cannot look up the limits of topic %s", writer.topic)
        finally:
            writer.opening = None
        if writer.is_busy and not writer.is_ready:  # the topic was deleted meanwhile
            self._open(writer)


class TopicWriter:
    """One topic's partitions and limits.

    Messages without a key go to one partition until its batch is sealed, and then to an idle one,
    or to the least busy of a few. The partitioner chooses the partition for a key. While the topic
    is not known to exist (`is_ready` is False), messages wait in `waiting`; `is_open` says that
    none waits.
    """

    __slots__ = (
        "_partitions",
        "_settler",
        "by_key",
        "is_compacted",
        "is_open",
        "is_ready",
        "limits_at",
        "max_bytes",
        "max_bytes_setting",
        "missed",
        "opening",
        "queues",
        "registration",
        "sticky",
        "topic",
        "trouble",
        "waiting",
    )

    def __init__(self, topic: str, settler: BatchSettler) -> None:
        self.topic = topic
        self.is_ready = False
        self.is_open = False
        self.waiting = WaitQueue()
        self.opening: asyncio.Task[None] | None = None
        self.registration: SchemaRegistration | None = None
        self.trouble: Exception | None = None
        self.missed = 0
        self.is_compacted = False
        self.limits_at = 0.0
        self.max_bytes = 0
        self.max_bytes_setting = ""
        self.queues: dict[int, PartitionQueue] = {}
        self._settler = settler
        self._partitions: Sequence[int] = ()
        self.by_key: dict[bytes, PartitionQueue] = {}
        self.sticky: PartitionQueue | None = None

    @property
    def is_busy(self) -> bool:
        """Whether messages are waiting or unsettled."""
        return bool(self.waiting) or any(o.oldest is not None for o in self.queues.values())

    def set_partitions(self, partitions: Sequence[int]) -> None:
        """Note the topic's partitions; if they changed, keys map to other partitions."""
        if partitions != self._partitions:
            self._partitions = partitions
            self.by_key.clear()
            self.sticky = None

    @property
    def producer(self) -> Producer:
        """The latest producer, open or closed."""
        return self._settler.supervisor.producer

    def set_limits(self, producer: Producer, facts: TopicFacts | None) -> None:
        """Note the size limits of messages; a topic's limit applies after compression."""
        self.limits_at = asyncio.get_running_loop().time()
        self.max_bytes, self.max_bytes_setting = producer.max_request_size, "max_request_size"
        if facts is None:
            return
        self.is_compacted = facts.is_compacted
        limit = facts.max_message_bytes
        if limit is not None and limit < self.max_bytes and not producer.is_compressing:
            self.max_bytes, self.max_bytes_setting = limit, _TOPIC_LIMIT

    def check_size(self, message: OutgoingMessage, value: bytes | None) -> None:
        """Refuse a message that is too large for the producer or topic; aiokafka does not.

        Raises:
            MessageTooLargeError: with the size, the limit, and the setting that it comes from.
        """
        size = record_bytes(message.key, value, message.headers)
        if size > self.max_bytes:
            raise MessageTooLargeError(
                f"a message of {size} bytes to {self.topic} is larger than "
                f"{self.max_bytes_setting}, {self.max_bytes} bytes; raise that limit, or publish "
                "smaller messages",
                topic=self.topic,
            )

    def queue_for(
        self, key: bytes | None, partition: int | None, producer: Producer
    ) -> PartitionQueue:
        """Return the queue of a message's partition.

        Raises:
            DeliveryFailedError: the partition does not exist, or the topic needs a key.
        """
        if partition is not None:
            return self._check(partition)
        found = self.sticky if key is None else self.by_key.get(key)
        if found is not None:
            return found
        if not producer.is_sticky:
            return self._queue(self._ask(key, producer))
        return self._stick(producer) if key is None else self._remember(key, producer)

    def _check(self, partition: int) -> PartitionQueue:
        if partition not in self._partitions:
            count = len(self._partitions)
            raise DeliveryFailedError(
                f"topic {self.topic} has no partition {partition}: it has {count}, from 0",
                topic=self.topic,
                partition=partition,
            )
        return self._queue(partition)

    def _remember(self, key: bytes, producer: Producer) -> PartitionQueue:
        if len(self.by_key) >= _CACHED_KEYS:
            self.by_key.clear()
        queue = self._queue(self._ask(key, producer))
        self.by_key[key] = queue
        return queue

    def _stick(self, producer: Producer) -> PartitionQueue:
        if self.is_compacted:
            # aiokafka does not know the broker's answer (87) and would need a new producer.
            raise DeliveryFailedError(
                f"topic {self.topic} is compacted, so each of its messages needs a key; "
                "publish with key=, or remove compact from the topic's cleanup.policy",
                topic=self.topic,
            )
        queue = self._queue(self._partitions[int(random.random() * len(self._partitions))])
        if queue.backlog or not producer.has_leader(*queue.topic_partition):
            available = producer.available_partitions(self.topic) or self._partitions
            candidates = random.sample(available, min(_CANDIDATES, len(available)))
            queue = min(map(self._queue, candidates), key=lambda queue: queue.backlog)
        self.sticky = queue
        return queue

    def _ask(self, key: bytes | None, producer: Producer) -> int:
        available = producer.available_partitions(self.topic)
        return producer.partition_for(key, self._partitions, available)

    def _unstick(self, queue: PartitionQueue) -> None:
        if self.sticky is queue:
            self.sticky = None

    def _queue(self, partition: int) -> PartitionQueue:
        queue = self.queues.get(partition)
        if queue is None:
            place = TopicPartition(self.topic, partition)
            queue = self.queues[partition] = PartitionQueue(place, self._settler, self._unstick)
        return queue


def _translate(error: Exception, topic: str) -> Exception:
    if isinstance(error, kafka.KafkaError):
        return translate(error, f"looking up topic {topic}", topic=topic)
    return error

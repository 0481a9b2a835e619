"""A broker inside this process: librdkafka's mock cluster, which speaks Kafka's real protocol."""

import ctypes
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Self

from .errors import KafkaTestingError
from .librdkafka import Librdkafka

ALL_BROKERS = -1
DISCONNECT = -195
"""A value instead of an error code: the broker closes the connection and does nothing."""

logger = logging.getLogger("kafkaesk.testing")


class ApiKey(IntEnum):
    """The requests for which a fault can be set.

    https://kafka.apache.org/protocol.html#protocol_api_keys
    """

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a broker received."""

    broker_id: int
    api_key: int


class EmbeddedBroker:
    """One or more embedded brokers; a context manager that starts and stops them.

    Topics appear on first use, with 4 partitions. A consumer group has at most one member. Each
    partition keeps about 5 MB and drops older records. Nothing survives `stop`. Starting, stopping
    and every call take about a millisecond or less, so async code may call them directly.

    Args:
        brokers: how many; their ids start at 1.
        topics: name to number of partitions, made at the start.
    """

    consumer_settings: ClassVar[Mapping[str, int]] = MappingProxyType(
        {
            "session_timeout_ms": 3000,
            "heartbeat_interval_ms": 500,
            "metadata_max_age_ms": 1000,  # a topic appears when it is first used, and tells nobody
        }
    )
    """Recommended settings for aiokafka's consumer. A member that rejoins a group, after a restart
    or for a new topic, waits for the session timeout minus one second."""

    def __init__(self, *, brokers: int = 1, topics: Mapping[str, int] | None = None) -> None:
        self._brokers = brokers
        self._topics = dict(topics or {})
        self._lock = threading.Lock()
        self._library: Librdkafka | None = None
        self._handle: int | None = None
        self._cluster: int | None = None

    @property
    def servers(self) -> list[str]:
        """The brokers, as ``host:port``."""
        addresses: bytes = self._call("cluster_bootstraps")
        return addresses.decode().split(",")

    @property
    def host_port(self) -> str:
        """The first of `servers`."""
        return self.servers[0]

    def start(self) -> None:
        """Start the brokers; log their limits in one line.

        Raises:
            KafkaTestingError: librdkafka is missing or refused.
        """
        self._library = Librdkafka()
        self._handle = self._library.new_handle()
        self._cluster = self._library.call("mock_cluster_new", self._handle, self._brokers)
        if not self._cluster:
            self.stop()
            raise KafkaTestingError(f"librdkafka cannot start {self._brokers} mock brokers")
        self._call("group_initial_rebalance_delay_ms", 0)
        for topic, partitions in self._topics.items():
            self.create_topic(topic, partitions=partitions)
        logger.info(
            "embedded broker at %s: a topic made on first use gets 4 partitions, a group has one "
            "member, a partition keeps about 5 MB, nothing survives this process",
            ",".join(self.servers),
        )

    def stop(self) -> None:
        """Close all connections and forget all records."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
            handle, self._handle = self._handle, None
            if self._library is not None and cluster:
                self._library.call("mock_cluster_destroy", cluster)
            if self._library is not None and handle:
                self._library.call("destroy", handle)

    def create_topic(self, topic: str, *, partitions: int = 4) -> None:
        """Create a topic.

        Raises:
            KafkaTestingError: the topic exists.
        """
        self._check("topic_create", topic.encode(), partitions, min(self._brokers, 3))

    def delete_topic(self, topic: str) -> None:
        """Delete a topic and its records; its next use creates it again.

        Raises:
            KafkaTestingError: the topic does not exist, or librdkafka is older than 2.15.
        """
        self._check("topic_delete", topic.encode())

    def delete_records(self, topic: str, partition: int, *, before_offset: int) -> None:
        """Delete the records of a partition that are older than an offset.

        Raises:
            KafkaTestingError: the partition or offset does not exist, or librdkafka is too old.
        """
        self._check("partition_delete_records", topic.encode(), partition, before_offset)

    def push_errors(self, api_key: int, *codes: int) -> None:
        """Answer the next requests of one kind with one of these error codes each; 0 is no error.

        The request is not executed. `DISCONNECT` closes the connection instead.
        """
        array = (ctypes.c_int * len(codes))(*codes)
        self._call("push_request_errors_array", api_key, len(codes), array)

    def push_broker_errors(self, broker_id: int, api_key: int, *errors: tuple[int, float]) -> None:
        """Like `push_errors`, on one broker: pairs of an error code and a delay in seconds.

        With code 0 the request is executed and its answer is delayed.

        Raises:
            KafkaTestingError: the broker does not exist.
        """
        flat = [int(value) for code, delay in errors for value in (code, delay * 1000)]
        self._check("broker_push_request_error_rtts", broker_id, api_key, len(errors), *flat)

    def clear_errors(self, api_key: int) -> None:
        """Forget the remaining errors of `push_errors` for one kind of request."""
        self._call("clear_request_errors", api_key)

    def set_rtt(self, seconds: float, *, broker_id: int = ALL_BROKERS) -> None:
        """Delay every answer."""
        self._check("broker_set_rtt", broker_id, int(seconds * 1000))

    def set_down(self, broker_id: int = ALL_BROKERS) -> None:
        """Close connections and refuse new ones; leaders do not move."""
        self._check("broker_set_down", broker_id)

    def set_up(self, broker_id: int = ALL_BROKERS) -> None:
        """Accept connections again, on the same port."""
        self._check("broker_set_up", broker_id)

    def set_coordinator(self, group: str, broker_id: int) -> None:
        """Make a broker the coordinator of a consumer group."""
        self._check("coordinator_set", b"group", group.encode(), broker_id)

    def set_leader(self, topic: str, partition: int, broker_id: int) -> None:
        """Make a broker the leader of a partition; -1 leaves it without one."""
        self._check("partition_set_leader", topic.encode(), partition, broker_id)

    def set_topic_error(self, topic: str, code: int) -> None:
        """Answer metadata requests for a topic with an error code; 0 ends that."""
        self._call("topic_set_error", topic.encode(), code)

    def track_requests(self) -> None:
        """Record the requests from now on, and forget earlier ones."""
        self._call("start_request_tracking")

    def requests(self) -> list[Request]:
        """Return the requests recorded since `track_requests`, in order."""
        count = ctypes.c_size_t()
        array = self._call("get_requests", ctypes.byref(count))
        library = self._running()[0]
        try:
            return [
                Request(
                    library.call("mock_request_id", one), library.call("mock_request_api_key", one)
                )
                for one in array[: count.value]
            ]
        finally:
            library.call("mock_request_destroy_array", array, count)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _running(self) -> tuple[Librdkafka, int]:
        if self._library is None or not self._cluster:
            raise KafkaTestingError("the embedded broker is not running; start it first")
        return self._library, self._cluster

    # Any: as in librdkafka.py. The lock keeps a stop in another thread from freeing the cluster.
    def _call(self, name: str, *arguments: Any) -> Any:
        with self._lock:
            library, cluster = self._running()
            return library.call(f"mock_{name}", cluster, *arguments)

    def _check(self, name: str, *arguments: Any) -> None:
        with self._lock:
            library, cluster = self._running()
            library.check(f"mock_{name}", cluster, *arguments)

"""One or three brokers of real Apache Kafka, from Maven's packages, on free ports."""

import atexit
import base64
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from .kafka_install import class_archive, find_java
from .node import Guard, KafkaNode
from .properties import CONTROLLER, INTERNAL, Listener, ReservedPorts, server_properties

_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")

logger = logging.getLogger("kafkaesk.testing")


class KafkaCluster:
    """Brokers in KRaft mode, each in its own JVM; a context manager that starts and stops them.

    The ports are chosen here, before the start, so that a proxy can be set up around them. They are
    reserved until the stop, so that a restarted node finds its port free. Every method blocks: in
    an async test call it through ``asyncio.to_thread``.

    Args:
        nodes: how many; replication and in-sync replicas follow (three: 3 and 2).
        properties: added to, or put in place of, what every node's ``server.properties`` holds.
        listeners: more named listeners, next to the plain one that `servers` lists.
        scram_users: name to password, for both SCRAM mechanisms, made when the data is formatted.
        jvm_options: more arguments of ``java``.
        fast_failover: notice a dead broker within 2 seconds instead of Kafka's own 9.
        start_timeout: seconds, for all nodes together.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[Listener] = (),
        scram_users: Mapping[str, str] | None = None,
        jvm_options: Sequence[str] = (),
        fast_failover: bool = True,
        start_timeout: float = 60.0,
    ) -> None:
        self.directory = Path(tempfile.gettempdir()) / f"kafkaesk-kafka-{os.urandom(6).hex()}"
        self.keep_logs = False
        self._properties = dict(properties or {})
        self._listeners = list(listeners)
        self._scram_users = dict(scram_users or {})
        self._jvm_options = list(jvm_options)
        self._fast_failover = fast_failover
        self._start_timeout = start_timeout
        self._guard = Guard()
        names = [INTERNAL, CONTROLLER, *(listener.name for listener in self._listeners)]
        self._reserved = ReservedPorts(nodes * len(names))
        free = iter(self._reserved.numbers)
        self._ports = {id_: {name: next(free) for name in names} for id_ in range(1, nodes + 1)}
        self.nodes = [
            KafkaNode(id_, directory=self.directory / f"n{id_}", ports=ports, guard=self._guard)
            for id_, ports in self._ports.items()
        ]

    @property
    def servers(self) -> list[str]:
        """The plain listener of every node, as ``host:port``."""
        return [node.address for node in self.nodes]

    @property
    def host_port(self) -> str:
        """The first of `servers`."""
        return self.nodes[0].address

    def servers_of(self, listener: str) -> list[str]:
        """Return ``host:port`` of a named listener on every node, whatever it advertises."""
        return [node.address_of(listener) for node in self.nodes]

    def start(self) -> None:
        """Format the data and start all nodes; return when each knows all others and serves groups.

        Raises:
            KafkaUnavailableError: Java, or Maven for the first run, is missing.
            KafkaBrokerError: a node refused its configuration or was not ready in time; its log is
                kept, and the error says where.
        """
        java = find_java()
        archive = class_archive(java)
        atexit.register(self.stop)
        self._guard.start()
        options = [f"-XX:SharedArchiveFile={archive}"] if archive else []
        cluster_id = _new_cluster_id()

        def prepare(node: KafkaNode) -> None:
            node.prepare(
                java,
                cluster_id=cluster_id,
                properties=self._properties_of(node),
                format_arguments=self._scram_arguments(),
                jvm_options=[*options, *self._jvm_options],
            )

        try:
            with ThreadPoolExecutor() as threads:
                list(threads.map(prepare, self.nodes))
            self.heal()
        except BaseException:
            self.keep_logs = True
            self.stop()
            raise

    def heal(self) -> None:
        """Thaw frozen nodes, start dead ones, and return once all know each other and are in sync.

        Raises:
            KafkaBrokerError: a node was not ready in time.
        """
        for node in self.nodes:
            node.thaw()
            if not node.is_running:
                node.start(wait=False)
        ids = [node.id for node in self.nodes]
        for node in self.nodes:
            node.wait_until_ready(expected_ids=ids, in_sync=True, timeout=self._start_timeout)

    def stop(self) -> None:
        """Kill all nodes and delete their data; with `keep_logs`, keep the logs."""
        atexit.unregister(self.stop)
        for node in self.nodes:
            node.kill()
        self._guard.stop()
        self._reserved.release()
        if self.keep_logs and self.directory.exists():
            for node in self.nodes:
                shutil.rmtree(node.data, ignore_errors=True)
            logger.warning("kafka's logs are kept in %s", self.directory)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.keep_logs = self.keep_logs or error is not None
        self.stop()

    def _properties_of(self, node: KafkaNode) -> dict[str, str]:
        own = server_properties(
            node.id,
            ports=self._ports,
            listeners=self._listeners,
            data=node.data,
            fast_failover=self._fast_failover,
        )
        return {**own, **self._properties}

    def _scram_arguments(self) -> list[str]:
        return [
            argument
            for name, password in self._scram_users.items()
            for mechanism in _SCRAM
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]


def _new_cluster_id() -> str:
    """Return 16 bytes in URL-safe base64; a fixed first byte avoids a "-", an option to Kafka."""
    return base64.urlsafe_b64encode(b"K" + os.urandom(15)).decode().rstrip("=")

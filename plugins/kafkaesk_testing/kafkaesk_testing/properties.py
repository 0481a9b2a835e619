"""The content of a broker's ``server.properties``, and the choice of its ports."""

import random
import socket
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERNAL = "PLAINTEXT"
CONTROLLER = "CONTROLLER"

# Apache Kafka's own values leave a killed broker registered for 9 seconds; with these a restart
# after SIGKILL takes 2 to 4 seconds instead of 12.
FAST_FAILOVER: Mapping[str, str] = {
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.backoff.max.ms": "200",
}


@dataclass(frozen=True, slots=True)
class Listener:
    """An additional named listener on every node, next to the plain internal listener.

    The prefix of its properties has ``name`` in lower case (``listener.name.NAME.``).
    ``advertised_ports`` are the ports that brokers advertise to clients, one per node, for example
    of a proxy; the default is the broker's own port.
    """

    name: str
    protocol: str = "PLAINTEXT"
    advertised_ports: Sequence[int] = ()


def server_properties(
    node_id: int,
    *,
    ports: Mapping[int, Mapping[str, int]],
    listeners: Iterable[Listener],
    data: Path,
    fast_failover: bool,
) -> dict[str, str]:
    """Return the properties of one node; ``ports`` has all ports, by node id and listener."""
    return {
        **_network(node_id, ports, list(listeners)),
        **_replication(len(ports)),
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # The default, 128 MiB, does not fit into the small heap.
        "log.cleaner.dedupe.buffer.size": "2097152",
        # The default is 15 seconds: a test that waits for a compacted topic waits for the cleaner.
        "log.cleaner.backoff.ms": "500",
        # Tests write timestamps of any year, and Kafka deletes by them: none after seven days.
        "log.retention.ms": "-1",
        **(FAST_FAILOVER if fast_failover else {}),
    }


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file."""
    lines = (f"{key}={_escaped(value)}\n" for key, value in properties.items())
    path.write_text("".join(lines), encoding="latin-1")


def _network(
    node_id: int, ports: Mapping[int, Mapping[str, int]], listeners: Sequence[Listener]
) -> dict[str, str]:
    own = ports[node_id]
    advertised = {name: port for name, port in own.items() if name != CONTROLLER}
    for listener in listeners:
        if listener.advertised_ports:
            advertised[listener.name] = listener.advertised_ports[node_id - 1]
    protocols = {CONTROLLER: "PLAINTEXT", INTERNAL: "PLAINTEXT"}
    protocols.update((listener.name, listener.protocol) for listener in listeners)
    voters = (f"{other}@127.0.0.1:{names[CONTROLLER]}" for other, names in ports.items())
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": ",".join(voters),
        "listeners": _addresses(own),
        "advertised.listeners": _addresses(advertised),
        "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in protocols.items()),
        "controller.listener.names": CONTROLLER,
        "inter.broker.listener.name": INTERNAL,
    }


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _replication(nodes: int) -> dict[str, str]:
    replicas, in_sync = str(min(nodes, 3)), str(min(nodes, 2))
    return {
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "share.coordinator.state.topic.replication.factor": replicas,
        "default.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.min.isr": in_sync,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": "3",
        "transaction.state.log.num.partitions": "3",
    }


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


# --- ports

# Below the ports that systems give to outgoing connections (32768 and above on Linux): else a
# client that reconnects to a killed broker may be given the broker's own port as its local one,
# connect to itself, and keep the broker from starting again.
_CANDIDATES = range(20000, 32768)


def free_ports(count: int) -> list[int]:
    """Return distinct ports on which nothing listens now, without reserving them.

    Raises:
        OSError: fewer than ``count`` candidates are free.
    """
    found: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if len(found) == count:
            return found
        if _is_free(port):
            found.append(port)
    raise OSError(f"found {len(found)} free ports of {count} between 20000 and 32767")


class ReservedPorts:
    """Distinct ports that no other process gets until `release`, even while nothing listens there.

    On Linux, each port is bound by a socket that does not listen, so a search for a free port skips
    it. A server that sets SO_REUSEADDR, as in Java and asyncio, can listen on it, and do so again
    after a restart. On other systems a bound port cannot be shared, and the ports are only free,
    not reserved.
    """

    def __init__(self, count: int) -> None:
        """Reserve ``count`` ports.

        Raises:
            OSError: fewer are free.
        """
        self.numbers: list[int] = []
        sockets: list[socket.socket] = []
        self._release = weakref.finalize(self, _close, sockets)
        while len(self.numbers) < count:
            for port in free_ports(count - len(self.numbers)):
                try:
                    sockets.append(_bind(port))
                except OSError:
                    continue  # somebody was faster
                self.numbers.append(port)
        if sys.platform != "linux":
            self.release()

    def release(self) -> None:
        """Release the ports."""
        self._release()


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.bind(("127.0.0.1", port))
        # Only now: two that look for a free port cannot both get this one.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        bound.close()
        raise
    return bound


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

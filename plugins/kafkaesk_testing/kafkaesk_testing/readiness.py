"""Checks whether a broker is ready, with two Kafka requests over a plain blocking socket.

An open port is not enough: a broker answers FindCoordinator with COORDINATOR_NOT_AVAILABLE until it
has created the topic ``__consumer_offsets``. The requests are described in
https://kafka.apache.org/protocol.html#protocol_messages
"""

import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .errors import KafkaBrokerError

_METADATA, _FIND_COORDINATOR = 3, 10
_NONE, _GROUP_AUTHORIZATION_FAILED = 0, 30
_CLIENT_ID = b"kafkaesk-testing"
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of one broker: the live brokers, and partitions that are not in sync."""

    broker_ids: list[int]
    out_of_sync: list[tuple[str, int]]


def metadata(address: str) -> Metadata:
    """Ask the broker at ``address`` (``host:port``) about all topics.

    Raises:
        OSError: the broker does not answer.
    """
    reader = _Reader(_request(address, _METADATA, struct.pack(">i", -1)))
    broker_ids = []
    for _ in range(reader.number("i")):
        broker_ids.append(reader.number("i"))
        reader.text()  # host
        reader.number("i")  # port
        reader.text()  # rack
    reader.number("i")  # controller
    out_of_sync = []
    for _ in range(reader.number("i")):
        reader.number("h")  # error
        topic = reader.text()
        reader.number("b")  # internal
        for _ in range(reader.number("i")):
            reader.number("h")  # error
            partition, leader = reader.number("i"), reader.number("i")
            replicas, in_sync = reader.numbers(), reader.numbers()
            if leader < 0 or len(in_sync) < len(replicas):
                out_of_sync.append((topic, partition))
    return Metadata(sorted(broker_ids), out_of_sync)


def has_coordinator(address: str) -> bool:
    """Return whether the broker at ``address`` can name the coordinator of a consumer group.

    Raises:
        OSError: the broker does not answer.
    """
    group = b"probe"
    payload = struct.pack(f">h{len(group)}sb", len(group), group, 0)
    reader = _Reader(_request(address, _FIND_COORDINATOR, payload))
    reader.number("i")  # throttle time
    return reader.number("h") in (_NONE, _GROUP_AUTHORIZATION_FAILED)


def wait_until_ready(
    address: str,
    *,
    timeout: float,
    expected_ids: Iterable[int] = (),
    in_sync: bool = False,
    is_alive: Callable[[], bool] = lambda: True,
) -> None:
    """Block until the broker at ``address`` knows the expected brokers and a coordinator.

    With ``in_sync``, also until every replica of every partition is in sync.

    Raises:
        KafkaBrokerError: the broker was not ready within ``timeout``, or ``is_alive`` became false.
    """
    expected = set(expected_ids)
    deadline = time.monotonic() + timeout
    while True:
        obstacle = _obstacle(address, expected, in_sync=in_sync)
        if obstacle is None:
            return
        if not is_alive():
            raise KafkaBrokerError(f"the broker at {address} ended before it was ready")
        if time.monotonic() > deadline:
            text = f"the broker at {address} was not ready in {timeout:g} seconds: it {obstacle}"
            raise KafkaBrokerError(text)
        time.sleep(0.02)


def _obstacle(address: str, expected: set[int], *, in_sync: bool) -> str | None:
    try:
        known = metadata(address)
        if not known.broker_ids or not expected.issubset(known.broker_ids):
            return f"knows only the brokers {known.broker_ids}"
        if not has_coordinator(address):
            return "has no group coordinator"
    except (OSError, struct.error) as error:
        return f"does not answer ({error})"
    if in_sync and known.out_of_sync:
        return f"has replicas out of sync: {known.out_of_sync}"
    return None


class _Reader:
    """Reads values from the front of an answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, kind: str) -> int:
        layout = f">{kind}"
        (value,) = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return int(value)

    def numbers(self) -> list[int]:
        return [self.number("i") for _ in range(self.number("i"))]

    def text(self) -> str:
        start = self._at + 2
        self._at = start + max(self.number("h"), 0)
        return self._data[start : self._at].decode()


def _request(address: str, api_key: int, payload: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    target = host.strip("[]"), int(port)
    header = struct.pack(f">hhih{len(_CLIENT_ID)}s", api_key, 1, 1, len(_CLIENT_ID), _CLIENT_ID)
    with socket.create_connection(target, timeout=_ANSWER_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(payload)) + header + payload)
        (length,) = struct.unpack(">i", _receive(connection, 4))
        return _receive(connection, length)[4:]  # after the correlation id


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        chunk = connection.recv(length - len(data))
        if not chunk:
            raise ConnectionError("closed the connection")
        data += chunk
    return bytes(data)

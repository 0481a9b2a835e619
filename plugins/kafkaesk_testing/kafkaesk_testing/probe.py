"""Is a broker ready? Two requests of Kafka's protocol over a plain blocking socket.

An open port is not enough: a broker answers FindCoordinator with COORDINATOR_NOT_AVAILABLE until it
has made the topic ``__consumer_offsets``. The requests are described in
https://kafka.apache.org/protocol.html#protocol_messages
"""

import socket
import struct
import time
from collections.abc import Callable, Iterable

from .errors import KafkaBrokerError

_METADATA, _FIND_COORDINATOR = 3, 10
_NONE, _GROUP_AUTHORIZATION_FAILED = 0, 30
_CLIENT_ID = b"kafkaesk-testing"


def broker_ids(address: str, *, timeout: float = 5.0) -> list[int]:
    """Return the ids of the live brokers that the broker at ``address`` (``host:port``) knows.

    Raises:
        OSError: it does not answer.
    """
    body = _request(address, _METADATA, struct.pack(">i", 0), timeout=timeout)
    (count,), at, ids = struct.unpack_from(">i", body), 4, []
    for _ in range(count):
        broker_id, host_length = struct.unpack_from(">ih", body, at)
        at += 6 + host_length + 4
        (rack_length,) = struct.unpack_from(">h", body, at)
        at += 2 + max(rack_length, 0)
        ids.append(broker_id)
    return sorted(ids)


def has_coordinator(address: str, *, timeout: float = 5.0) -> bool:
    """Say whether the broker at ``address`` can name the coordinator of a consumer group.

    Raises:
        OSError: it does not answer.
    """
    group = b"probe"
    body = _request(
        address,
        _FIND_COORDINATOR,
        struct.pack(f">h{len(group)}sb", len(group), group, 0),
        timeout=timeout,
    )
    (code,) = struct.unpack_from(">h", body, 4)
    return code in (_NONE, _GROUP_AUTHORIZATION_FAILED)


def wait_until_ready(
    address: str,
    *,
    expected_ids: Iterable[int] = (),
    timeout: float,
    is_alive: Callable[[], bool] = lambda: True,
) -> None:
    """Block until the broker at ``address`` knows itself and the expected, and names a coordinator.

    Raises:
        KafkaBrokerError: it did not within ``timeout``, or ``is_alive`` became false.
    """
    expected = set(expected_ids)
    deadline = time.monotonic() + timeout
    state = "is not reachable"
    while time.monotonic() < deadline:
        if not is_alive():
            raise KafkaBrokerError(f"the broker at {address} ended before it was ready")
        try:
            known = broker_ids(address)
            if known and expected <= set(known) and has_coordinator(address):
                return
            state = f"knows the brokers {known}, or no group coordinator yet"
        except (OSError, struct.error) as error:
            state = f"does not answer ({error})"
        time.sleep(0.02)
    raise KafkaBrokerError(
        f"the broker at {address} was not ready in {timeout:g} seconds: it {state}"
    )


def _request(address: str, api_key: int, payload: bytes, *, timeout: float) -> bytes:
    host, _, port = address.rpartition(":")
    header = struct.pack(f">hhih{len(_CLIENT_ID)}s", api_key, 1, 1, len(_CLIENT_ID), _CLIENT_ID)
    with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(payload)) + header + payload)
        (length,) = struct.unpack(">i", _read(connection, 4))
        return _read(connection, length)[4:]


def _read(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        chunk = connection.recv(length - len(data))
        if not chunk:
            raise ConnectionError("closed the connection")
        data += chunk
    return bytes(data)

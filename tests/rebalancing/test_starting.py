"""A client that does not start leaves no connection behind (rule 35)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient

from kafkaesk_core.kafka.clients import start_client

API_VERSIONS, METADATA = 18, 3


class Server:
    """Answers ApiVersions, and nothing else."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                key, _, correlation = struct.unpack_from(">hhi", request)
                if key == API_VERSIONS:
                    versions = b"".join(struct.pack(">hhh", k, 0, 12) for k in range(62))
                    answer = struct.pack(">ihi", correlation, 0, 62) + versions
                    writer.write(struct.pack(">i", len(answer)) + answer)
                else:
                    self.asked.set()
        except asyncio.IncompleteReadError:
            self.hung_up.set()
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1")
    host, port = listening.sockets[0].getsockname()
    server.address = f"{host}:{port}"
    yield server
    listening.close()
    await listening.wait_closed()


def client_of(server: Server) -> Any:
    return AIOKafkaClient(bootstrap_servers=server.address)


async def test_a_start_that_takes_too_long_hangs_up(server: Server) -> None:
    client = client_of(server)

    with pytest.raises(TimeoutError):
        await start_client(client.bootstrap(), client, 0.3)

    assert server.asked.is_set()
    await asyncio.wait_for(server.hung_up.wait(), 2)


async def test_a_start_that_is_cancelled_hangs_up(server: Server) -> None:
    client = client_of(server)
    starting = asyncio.create_task(start_client(client.bootstrap(), client, 30))
    await asyncio.wait_for(server.asked.wait(), 5)

    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.wait_for(server.hung_up.wait(), 2)

"""A small HTTP server on the application's own event loop: a blocked loop answers no probe."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus

import h11

from kafkaesk_core import ConfigurationError

from .endpoint import Answer, Endpoint

__all__ = ["ProbeServer"]

logger = logging.getLogger("kafkaesk.ops")

MAX_REQUEST = 8 * 1024
"""Bytes of a request's head; h11 refuses more."""
REQUEST_TIMEOUT = 5.0
MAX_CONNECTIONS = 50
READ_BYTES = 4096
ACCEPTED_AT_ONCE = 10
"""Few at once, so that a new client is not already the oldest before its request is read."""


class ProbeServer:
    """Serves an endpoint over HTTP/1.1, one request per connection.

    A request is limited to 8 KB and 5 seconds, and the server to 50 connections. A further
    connection closes the oldest one, so that clients that send nothing neither block a probe nor
    burden the consumer.
    """

    def __init__(self, endpoint: Endpoint, host: str, port: int) -> None:
        self._endpoint = endpoint
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.WriteTransport] = {}

    @property
    def port(self) -> int:
        """The port of the server, also if port 0 was requested."""
        if self._server is None:
            return self._port
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: the port is in use, or the host is not an address of this machine.
        """
        try:
            self._server = await asyncio.start_server(
                *(self._accept, self._host, self._port),
                limit=MAX_REQUEST,
                backlog=ACCEPTED_AT_ONCE,
            )
        except OSError as error:
            raise ConfigurationError(
                f"kafkaesk-ops cannot listen on {self._host}:{self._port} ({error.strerror}); "
                "change KAFKAESK_OPS_PORT or KAFKAESK_OPS_HOST"
            ) from error
        logger.info("probes and metrics at http://%s:%d", self._host, self.port)

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is None:
            return
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MAX_CONNECTIONS:
            self._connections.pop(next(iter(self._connections))).abort()
        self._connections[task] = writer.transport
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._serve(reader, writer)
        except (TimeoutError, OSError, h11.RemoteProtocolError):
            pass  # the client's: slow, gone, or not speaking HTTP
        finally:
            self._connections.pop(task, None)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST)
        try:
            request = await _read_request(connection, reader)
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            answer = Answer(status, "text/plain", f"{error}\n".encode())
            is_head = False
        else:
            if request is None:
                return
            method, path = request.method.decode("ascii"), request.target.decode("latin-1")
            answer, is_head = self._endpoint.answer(method, path), method == "HEAD"
        writer.write(_response(connection, answer, is_head=is_head))
        await writer.drain()


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> h11.Request | None:
    """Read the head of a request; None if the client has closed the connection."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(READ_BYTES))


def _response(connection: h11.Connection, answer: Answer, *, is_head: bool) -> bytes:
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Connection", "close"),
    ]
    reason = answer.status.phrase.encode()
    response = h11.Response(status_code=answer.status, headers=headers, reason=reason)
    parts = [connection.send(response)]
    if not is_head:
        parts.append(connection.send(h11.Data(data=answer.body)))
    return b"".join(part or b"" for part in parts)

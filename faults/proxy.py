"""A TCP proxy in front of brokers that knows where Kafka's requests begin and end.

One listener per broker; the brokers advertise the proxy's ports, so every client connection goes
through it. Requests are framed by their length; a rule matches requests by their API key.
https://kafka.apache.org/protocol.html#protocol_common
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .journal import now

__all__ = ["Line", "Proxy", "Request", "Rule"]

CHUNK = 64 * 1024


@dataclass(slots=True, eq=False)
class Rule:
    """The treatment of the next `times` requests (None: all) of one kind or any kind.

    delay: the answer comes `seconds` late. drop: the request is not passed on, and never answered.
    cut before: the connection is closed instead. cut after: the broker does what is asked, its
    answer is not passed on, the connection is closed. rewrite: `change` makes the answer another.
    """

    action: Literal["delay", "drop", "cut before", "cut after", "rewrite"]
    api: int | None = None
    times: int | None = None
    seconds: float = 0.0
    change: Callable[[bytes], bytes] = bytes
    fired: int = 0

    def takes(self, api: int) -> bool:
        """Whether the rule applies to this request; if so, count the request."""
        if (self.api is not None and self.api != api) or self.fired == self.times:
            return False
        self.fired += 1
        return True


@dataclass(frozen=True, slots=True)
class Request:
    """A request that passed the proxy; `at` is a time as in journals."""

    at: int
    broker: int
    api: int


@dataclass(slots=True)
class Line:
    """The state of the connections to one broker.

    stall: nothing is read. blackhole: what is read is thrown away. refuse: closed at once.
    `latency` is in seconds for each direction, `bytes_per_second` None for no limit.
    """

    state: Literal["pass", "stall", "blackhole", "refuse"] = "pass"
    latency: float = 0.0
    bytes_per_second: float | None = None
    cut_after_bytes: int | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Listens on `ports`, one per broker, and connects to `targets`, in the same order."""

    def __init__(self, ports: Sequence[int], targets: Sequence[str]) -> None:
        self._ports = list(ports)
        self._targets = list(targets)
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.Task[None], int] = {}
        self.rules: list[Rule] = []
        self.lines = [Line() for _ in ports]
        self.requests: list[Request] = []
        self.cuts = 0
        self.counts: Counter[int] = Counter()

    @property
    def servers(self) -> list[str]:
        """The addresses for clients."""
        return [f"127.0.0.1:{port}" for port in self._ports]

    async def start(self) -> None:
        """Listen."""
        for broker, port in enumerate(self._ports):
            server = await asyncio.start_server(self._accept(broker), "127.0.0.1", port)
            self._servers.append(server)

    async def stop(self) -> None:
        """Close everything."""
        for server in self._servers:
            server.close()
        self.cut()
        if self._open:
            await asyncio.wait(self._open, timeout=5)

    def rule(self, rule: Rule) -> Rule:
        """Add a rule."""
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all rules, and let everything pass."""
        self.rules.clear()
        for broker in range(len(self.lines)):
            self.set(broker)

    def set(
        self,
        broker: int,
        state: Literal["pass", "stall", "blackhole", "refuse"] = "pass",
        *,
        latency: float = 0.0,
        bytes_per_second: float | None = None,
        cut_after_bytes: int | None = None,
    ) -> None:
        """Change the state of connections to one broker, including existing ones."""
        line = self.lines[broker]
        line.state, line.latency = state, latency
        line.bytes_per_second, line.cut_after_bytes = bytes_per_second, cut_after_bytes
        line.changed.set()
        line.changed = asyncio.Event()

    def cut(self, broker: int | None = None) -> int:
        """Close the connections to one broker, or all connections; return their number."""
        found = [task for task, to in self._open.items() if broker in (None, to)]
        for task in found:
            task.cancel()
        self.cuts += len(found)
        return len(found)

    @property
    def connected(self) -> list[int]:
        """The brokers with connections."""
        return sorted(set(self._open.values()))

    # --- one connection

    def _accept(
        self, broker: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], asyncio.Task[None]]:
        def accept(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> asyncio.Task[None]:
            task = asyncio.get_running_loop().create_task(self._serve(broker, reader, writer))
            self._open[task] = broker
            task.add_done_callback(self._open.pop)
            return task

        return accept

    async def _serve(
        self, broker: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        target: asyncio.StreamWriter | None = None
        try:
            if self.lines[broker].state == "refuse":
                return
            host, _, port = self._targets[broker].rpartition(":")
            answers, target = await asyncio.open_connection(host, int(port))
            connection = _Connection(self, broker, (reader, writer), (answers, target))
            await connection.run()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side has gone, or it was cut
        finally:
            for one in (writer, target):
                if one is not None:
                    one.transport.abort()


class _CutError(ConnectionError):
    """A rule cuts the connection."""


class _Connection:
    """Two pumps: requests one way, answers the other way."""

    def __init__(
        self,
        proxy: Proxy,
        broker: int,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        target: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._broker = broker
        self._from_client, self._to_client = client
        self._from_broker, self._to_broker = target
        self._asked: deque[Rule | None] = deque()  # what happens to the answers, in their order
        self._bytes = itertools.count()

    async def run(self) -> None:
        pumps = [asyncio.ensure_future(self._requests()), asyncio.ensure_future(self._answers())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*pumps, return_exceptions=True)

    @property
    def _line(self) -> Line:
        return self._proxy.lines[self._broker]

    async def _requests(self) -> None:
        while True:
            size = await self._from_client.readexactly(4)
            body = await self._from_client.readexactly(struct.unpack(">i", size)[0])
            (api,) = struct.unpack_from(">h", body)
            if not await self._passes():
                continue
            self._proxy.requests.append(Request(now(), self._broker, api))
            self._proxy.counts[api] += 1
            rule = next((rule for rule in self._proxy.rules if rule.takes(api)), None)
            if rule is not None and rule.action == "cut before":
                raise _CutError
            if rule is not None and rule.action == "drop":
                continue
            self._asked.append(rule)
            await self._send(self._to_broker, size + body)

    async def _answers(self) -> None:
        while True:
            size = await self._from_broker.readexactly(4)
            body = await self._from_broker.readexactly(struct.unpack(">i", size)[0])
            rule = self._asked.popleft() if self._asked else None
            if rule is not None and rule.action == "cut after":
                raise _CutError
            if rule is not None and rule.action == "delay":
                await asyncio.sleep(rule.seconds)
            if rule is not None and rule.action == "rewrite":
                body = body[:4] + rule.change(body[4:])
            if await self._passes():
                await self._send(self._to_client, struct.pack(">i", len(body)) + body)

    async def _passes(self) -> bool:
        """Wait while the line is stalled; return whether to pass on the data."""
        while self._line.state == "stall":
            await self._line.changed.wait()
        return self._line.state != "blackhole"

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        line = self._line
        if line.latency:
            await asyncio.sleep(line.latency)
        step = CHUNK if line.bytes_per_second is None else max(1, int(line.bytes_per_second / 20))
        for start in range(0, len(data), step):
            part = data[start : start + step]
            if line.cut_after_bytes is not None:
                line.cut_after_bytes -= len(part)
                if line.cut_after_bytes < 0:
                    writer.write(part[: line.cut_after_bytes])
                    line.cut_after_bytes = None
                    self._proxy.cuts += 1
                    raise _CutError
            writer.write(part)
            await writer.drain()
            if line.bytes_per_second is not None:
                await asyncio.sleep(len(part) / line.bytes_per_second)

"""Logs on real Apache Kafka: the promise S18, and the fault F47."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from kafkaesk_core import Application
from kafkaesk_logging import LoggingPlugin, LogModel, PydanticKafkaeskHandler, PydanticLogModel
from kafkaesk_testing import KafkaCluster, eventually
from kafkaesk_testing.node import KafkaNode
from tests.programs import Program, kafkaesk


class User(LogModel):
    user: str


@pytest.fixture(scope="module")
def _one_node(kafka_jars: Path) -> Iterator[KafkaNode]:
    with KafkaCluster(1) as cluster:
        yield cluster.nodes[0]


@pytest.fixture
def node(_one_node: KafkaNode) -> KafkaNode:
    """A broker that runs when the test begins, and may be killed."""
    if not _one_node.is_running:
        _one_node.restart()
    return _one_node


async def everything(node: KafkaNode, topic: str) -> list[dict[str, Any]]:
    """The fields of all lines of a topic, as a plain client sees them."""
    found: list[dict[str, Any]] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=node.address, auto_offset_reset="earliest")
    async with consumer:
        partitions = consumer.assignment()
        count = sum((await consumer.end_offsets(partitions)).values())
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [json.loads(record.value)["data"] for record in records]
    return found


@pytest.mark.s18
async def test_logs_with_models_reach_a_subscriber_of_their_stream(
    node: KafkaNode, logger: logging.Logger
) -> None:
    """Factory, handler, queue, worker; acceptance 22."""
    app = Application([node.address], entry_points=False, plugins=[LoggingPlugin()], partitions=1)
    handler = PydanticKafkaeskHandler(app, "logging.test")
    logger.addHandler(handler)
    got: list[PydanticLogModel] = []

    @app.subscribe("logging.test", group="readers")
    async def read(data: PydanticLogModel, schema: str) -> None:
        assert schema == "PydanticLogModel:1"
        got.append(data)

    async with app:
        logger.debug("Log Message", User(user="kafkaesk"))
        await app.consume_for(1, seconds=20)

    fields = got[0].model_extra or {}
    assert (fields["message"], fields["user"]) == ("Log Message", "kafkaesk")
    assert handler.stats().delivered == 1


class Flood:
    """Logs from a thread while the event loop says how late it is."""

    def __init__(self, logger: logging.Logger, count: int) -> None:
        self._logger = logger
        self._count = count
        self.took: list[float] = []
        self.latest = 0.0

    def _log(self) -> None:
        for number in range(self._count):
            started = time.perf_counter()
            self._logger.info("line %d", number)
            self.took.append(time.perf_counter() - started)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        flooding = loop.create_task(asyncio.to_thread(self._log))
        while not flooding.done():
            due = loop.time() + 0.01
            await asyncio.wait([flooding], timeout=0.01)
            self.latest = max(self.latest, loop.time() - due)
        self.took.sort()

    def slowest_of(self, share: float) -> float:
        return self.took[int(len(self.took) * share)]


@pytest.mark.f47
async def test_a_flood_while_the_broker_is_gone_slows_nothing_and_is_counted(
    node: KafkaNode, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Acceptance 4 and 5."""
    app = Application([node.address], entry_points=False, plugins=[LoggingPlugin()], partitions=1)
    handler = PydanticKafkaeskHandler(app, "flood", queue_size=5000, max_in_flight=500)
    logger.addHandler(handler)
    flood = Flood(logger, 50_000)
    async with app:
        logger.info("before")
        assert await handler.drain(10)
        await asyncio.to_thread(node.kill)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await flood.run()
        stats = handler.stats()
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        told = capsys.readouterr().err.splitlines()
        await asyncio.to_thread(node.restart)
        assert await handler.drain(30)
    at_the_end = capsys.readouterr().err.splitlines()
    found = await everything(node, "flood")

    assert flood.slowest_of(0.5) < 0.001
    assert flood.slowest_of(0.99) < 0.02
    assert flood.latest < 1
    assert growth < (32 + 20) * 1024
    assert stats.queue_size == 5000
    kept = stats.delivered + stats.queue_size + stats.in_flight
    assert stats.enqueued == 50_001 == kept + sum(stats.dropped.values())
    assert len(told) <= 2  # one in 30 seconds
    assert "log records are lost" in told[0]
    assert len(at_the_end) <= 2
    messages = [line["message"] for line in found]
    lost = stats.dropped["queue_full"]
    assert len(set(messages)) == 50_001 - lost + 1
    assert messages.count("line 49999") == 1
    (gap,) = [line for line in found if line["logger"] == "kafkaesk.logging"]
    assert gap["message"] == f"dropped {lost} log records"


SERVICE = """
import logging
from kafkaesk_core import Application

app = Application()

@app.subscribe("events", "readers-of-events")
async def handle(data: bytes) -> None: ...

async def log() -> None:
    for number in range(2000):
        logging.getLogger("shop").info("line %d", number)
    open("logged", "w").close()

async def farewell() -> None:
    for number in range(2000, 2100):
        logging.getLogger("shop").info("line %d", number)

app.on("initialize", log)
app.on("finalize", farewell)
"""


def service(node: KafkaNode, folder: Path, **environment: str) -> Program:
    """A process that logs 2000 lines, consumes, and at its end logs 100 more."""
    (folder / "shop.py").write_text(SERVICE)
    settings = {
        "KAFKAESK_KAFKA_SERVERS": node.address,
        "KAFKAESK_TOPIC_PREFIX": f"{folder.name}.",
        "KAFKAESK_LOGGING_STREAM": "logs",
        "KAFKAESK_LOGGING_LEVEL": "INFO",
    }
    return kafkaesk("shop:app", folder=folder, **{**settings, **environment})


@pytest.mark.f47
async def test_sigterm_delivers_what_is_queued(node: KafkaNode, tmp_path: Path) -> None:
    with service(node, tmp_path) as program:
        await eventually((tmp_path / "logged").exists, within=30)
        code = await asyncio.to_thread(program.end, signal.SIGTERM, within=40)

    assert code == 0, program.printed
    found = await everything(node, f"{tmp_path.name}.logs")
    lines = [line["message"] for line in found if line["logger"] == "shop"]
    assert sorted(lines, key=lambda text: int(text.split()[1])) == [
        f"line {number}" for number in range(2100)
    ]


@pytest.mark.f47
async def test_sigterm_while_the_broker_is_gone_ends_in_time_and_tells_what_is_lost(
    node: KafkaNode, tmp_path: Path
) -> None:
    """Acceptance 8; 7 of the plugins together."""
    timeouts = {
        "KAFKAESK_LOGGING_DRAIN_TIMEOUT": "1",
        "KAFKAESK_COMMIT_TIMEOUT": "1",
        "KAFKAESK_DRAIN_TIMEOUT": "1",
        "KAFKAESK_SHUTDOWN_TIMEOUT": "6",
    }
    with service(node, tmp_path, KAFKAESK_LOGGING_LOGGERS="shop", **timeouts) as program:
        await eventually((tmp_path / "logged").exists, within=30)
        await asyncio.to_thread(node.kill)
        started = time.monotonic()
        await asyncio.to_thread(program.end, signal.SIGTERM, within=40)
        took = time.monotonic() - started

    output = program.printed
    assert took < 15, output
    told = [line for line in output.splitlines() if line.startswith("kafkaesk-logging")]
    assert len(told) <= 2, output
    lost = re.search(r"log records (?:are|were) lost: (\d+) ", told[-1])
    assert lost, output
    assert 100 <= int(lost[1]) <= 2100
    for sign in ("Task was destroyed", "Unclosed", "never retrieved", "never awaited"):
        assert sign not in output

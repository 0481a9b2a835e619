"""Logs on real Apache Kafka: the promise S18, and the fault F47."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest
from aiokafka import AIOKafkaConsumer

from kafkaesk_core import Application
from kafkaesk_logging import Logging, LogModel, PydanticKafkaeskHandler, PydanticLogModel
from kafkaesk_testing import KafkaCluster, eventually
from kafkaesk_testing.source import Kafka


class User(LogModel):
    user: str


async def everything(servers: list[str], topic: str) -> list[dict[str, Any]]:
    """The fields of all lines of a topic, as a plain client sees them."""
    found: list[dict[str, Any]] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    async with consumer:
        partitions = consumer.assignment()
        count = sum((await consumer.end_offsets(partitions)).values())
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [json.loads(record.value)["data"] for record in records]
    return found


async def test_logs_with_models_reach_a_subscriber_of_their_stream(
    kafkaesk_app: Application, logger: logging.Logger
) -> None:
    """S18: factory, handler, queue, worker."""
    kafkaesk_app.plugins.register(Logging())
    handler = PydanticKafkaeskHandler(kafkaesk_app, "logging.test")
    logger.addHandler(handler)
    got: list[PydanticLogModel] = []

    @kafkaesk_app.subscribe("logging.test", group="readers")
    async def read(data: PydanticLogModel, schema: str) -> None:
        assert schema == "PydanticLogModel:1"
        got.append(data)

    async with kafkaesk_app:
        logger.debug("Log Message", User(user="kafkaesk"))
        await kafkaesk_app.consume_for(1, seconds=20)

    fields = got[0].model_extra or {}
    assert (fields["message"], fields["user"]) == ("Log Message", "kafkaesk")
    assert handler.stats().delivered == 1


async def test_f47_a_flood_while_the_broker_is_gone_slows_nothing_and_is_counted(
    kafka_jars: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Acceptance 4 and 5."""
    cluster = KafkaCluster(1)
    await asyncio.to_thread(cluster.__enter__)
    try:
        node = cluster.nodes[0]
        servers = [node.address]
        app = Application(servers, entry_points=False, plugins=[Logging()], partitions=1)
        handler = PydanticKafkaeskHandler(
            app, queue_size=5000, max_in_flight=500, report_interval=1.0
        )
        logger.addHandler(handler)
        async with app:
            logger.info("before")
            assert await handler.drain(10)
            await asyncio.to_thread(node.kill)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            took: list[float] = []
            for number in range(50_000):
                started = time.perf_counter()
                logger.info("line %d", number)
                took.append(time.perf_counter() - started)
                if number % 1000 == 0:
                    await asyncio.sleep(0)
            stats = handler.stats()
            growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
            told = len(capsys.readouterr().err.splitlines())
            await asyncio.to_thread(node.restart)
            assert await handler.drain(30)
            heard = ""
            while "shipped again" not in heard:
                await asyncio.sleep(0.05)
                heard += capsys.readouterr().err
        found = await everything(servers, "logs")
    finally:
        await asyncio.to_thread(cluster.__exit__, None, None, None)

    took.sort()
    assert took[len(took) // 2] < 0.0005
    assert took[int(len(took) * 0.99)] < 0.005
    assert stats.queue_size == 5000
    assert told < 10
    kept = stats.delivered + stats.queue_size + stats.in_flight
    assert stats.enqueued == 50_001 == kept + sum(stats.dropped.values())
    assert growth < (32 + 20) * 1024
    messages = [line["message"] for line in found]
    assert len([text for text in messages if text.startswith("line")]) >= 5000
    assert messages.count("line 49999") == 1
    (gap,) = [line for line in found if line["message"].startswith("dropped")]
    assert gap["dropped"]["queue_full"] == stats.dropped["queue_full"]


SERVICE = """
import logging
from kafkaesk_core import Application

app = Application()

@app.subscribe("events", "readers-of-events")
async def handle(data: bytes) -> None: ...

async def log() -> None:
    for number in range(2000):
        logging.getLogger("shop").info("line %d", number)
    print("logged", flush=True)

app.on("initialize", log)
"""


def started(folder: Path, output: IO[str], **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kafkaesk_core", "shop:app"],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=output,
        stderr=output,
    )


async def test_f47_sigterm_delivers_what_is_queued(kafka: Kafka, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    prefix = f"{tmp_path.name}."
    output = (tmp_path / "output").open("w+")
    process = started(
        tmp_path,
        output,
        KAFKAESK_KAFKA_SERVERS=",".join(kafka.servers),
        KAFKAESK_TOPIC_PREFIX=prefix,
        KAFKAESK_LOGGING_STREAM="logs",
    )
    try:
        await eventually(lambda: "logged" in (tmp_path / "output").read_text(), within=30)
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 30)
    finally:
        process.kill()
        process.wait()
        output.close()

    assert code == 0, (tmp_path / "output").read_text()
    found = await everything(list(kafka.servers), f"{prefix}logs")
    lines = [line["message"] for line in found if line["logger"] == "shop"]
    assert sorted(lines, key=lambda text: int(text.split()[1])) == [
        f"line {n}" for n in range(2000)
    ]
    assert any("stopping" in line["message"] for line in found)

"""What type checkers say of a service: mypy --strict and pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAMS = Path(sys.executable).parent

SERVICE = """
import asyncio
from typing import Any, assert_type

import kafkaesk_core
from kafkaesk_core import (
    ConsumeCall,
    ConsumerRecord,
    IncomingMessage,
    RecordMetadata,
    Subscriber,
    TopicPartition,
    hookimpl,
)
from pydantic import BaseModel


class Audit:
    stage = "observe"

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: ConsumeCall) -> object:
        assert_type(message.offset, int)
        assert_type(message.record.topic, str)
        return await call_next(message)


app = kafkaesk_core.Application(plugins=[Audit()])
router = kafkaesk_core.Router()


@app.schema("Order", version=1)
class Order(BaseModel):
    number: int


@app.schema
class Note(BaseModel):
    text: str


@app.subscribe("orders.*", "billing", concurrency=4)
async def bill(order: Order, record: ConsumerRecord, subscriber: Subscriber) -> None:
    assert_type(record.offset, int)
    assert_type(record.key, bytes | None)
    delivery = await subscriber.publish("notes", Note(text="x"), key=b"k", partition=0)
    metadata = await delivery
    assert_type(metadata, RecordMetadata)
    assert_type(metadata.offset, int)
    assert_type(metadata.topic_partition, TopicPartition)
    await subscriber.consumer.commit()


@router.subscribe("notes")
async def take(notes: list[Note]) -> None: ...


@app.on("initialize")
async def first() -> None:
    delivery = await app.publish("orders.placed", Order(number=1), headers=[("a", b"b")])
    assert_type((await delivery).partition, int)
    assert_type(await app.publish_and_wait("orders.placed", {"number": 1}), RecordMetadata)
    assert_type(await app.publish_many("notes", [Note(text="x")]), int)


async def wrong(subscriber: Subscriber) -> None:
    await subscriber.publish("notes", Note(text="x"), keyy=b"k")  # WRONG
    await app.publish("notes", Note(text="x"), key="k")  # WRONG
    await app.publish("notes", object())  # WRONG
    app.subscribe("notes", concurrencyy=1)  # WRONG
    (await app.publish_and_wait("notes", Note(text="x"))).offsett  # WRONG


app.mount(router)
asyncio.run(kafkaesk_core.run_app(app))
used: Any = wrong
"""
WRONG = [n for n, line in enumerate(SERVICE.splitlines(), start=1) if line.endswith("# WRONG")]


@pytest.fixture
def service(tmp_path: Path) -> Path:
    path = tmp_path / "service.py"
    path.write_text(SERVICE)
    return path


def test_mypy_finds_what_is_wrong_in_a_service_and_nothing_else(service: Path) -> None:
    command = ["mypy", "--strict", "--no-incremental", "--config-file", "/dev/null", str(service)]

    told = run(command, service.parent)

    lines = [int(line) for line in re.findall(r"^service\.py:(\d+): error", told, re.MULTILINE)]
    assert lines == WRONG, told


def test_pyright_finds_what_is_wrong_in_a_service_and_nothing_else(service: Path) -> None:
    settings = {"typeCheckingMode": "strict", "include": ["service.py"], "venvPath": "/"}
    (service.parent / "pyrightconfig.json").write_text(json.dumps(settings))

    told = run(["basedpyright", "--outputjson", "--pythonpath", sys.executable], service.parent)

    problems = json.loads(told)["generalDiagnostics"]
    errors = [one for one in problems if one["severity"] == "error"]
    assert {one["range"]["start"]["line"] + 1 for one in errors} == set(WRONG), errors


def run(command: list[str], folder: Path) -> str:
    program = str(PROGRAMS / command[0])
    result = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode in (0, 1), result.stderr
    return result.stdout

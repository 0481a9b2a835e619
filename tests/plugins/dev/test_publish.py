"""`kafkaesk publish`: what is written is what the service would write, or nothing is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition
from click.testing import Result

from kafkaesk_testing import EmbeddedBroker

from .conftest import Command

ORDER = '{"number": 7}'
Publish = Callable[..., Result]


@pytest.fixture
def publish(command: Command) -> Publish:
    return lambda *arguments, **options: command("publish", *arguments, **options)


def records(broker: EmbeddedBroker, topic: str) -> list[ConsumerRecord]:
    return asyncio.run(read(broker, topic))


async def read(broker: EmbeddedBroker, topic: str) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.servers)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(4)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while len(found) < sum(ends.values()):
            for fetched in (await consumer.getmany(timeout_ms=1000)).values():
                found += fetched
        return sorted(found, key=lambda record: record.timestamp)
    finally:
        await consumer.stop()


def test_a_message_is_written_as_the_service_writes_it(
    publish: Publish, embedded_kafka: EmbeddedBroker
) -> None:
    done = publish(
        *("orders.placed", ORDER, "--app", "shop:app", "--key", "c7", "-H", "tenant=blue")
    )

    (record,) = records(embedded_kafka, "eu.orders.placed")
    assert done.exit_code == 0, done.output
    assert done.output == f"written to eu.orders.placed[{record.partition}]@0\n"
    assert record.key == b"c7"
    assert record.headers == (("tenant", b"blue"), ("by", b"the service"))
    assert json.loads(record.value or b"") == {
        "schema": "Order:2",
        "data": {"number": 7, "article": ""},
    }


@pytest.mark.parametrize(
    ("stream", "arguments", "written"),
    [
        (
            "orders.placed",
            [ORDER, "--schema", "Order:1"],
            {"schema": "Order:1", "data": {"number": 7}},
        ),
        ("plain", [ORDER], {"number": 7}),
        ("notes.new", ['{"text": "x"}'], {"schema": "Note:1", "data": {"text": "x"}}),
        (
            "orders.placed",
            ['{"schema": "Order:1", "data": {"number": 7}}'],
            {"schema": "Order:1", "data": {"number": 7}},
        ),
    ],
    ids=["a version that is named", "no envelope", "a schema that a handler takes", "an envelope"],
)
def test_the_schema_is_that_of_the_stream_unless_it_is_named(
    stream: str,
    arguments: list[str],
    written: Any,
    publish: Publish,
    embedded_kafka: EmbeddedBroker,
) -> None:
    done = publish(stream, *arguments, "--app", "shop:app")

    assert done.exit_code == 0, done.output
    (record,) = records(embedded_kafka, f"eu.{stream}")
    assert json.loads(record.value or b"") == written


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["orders.placed", '{"number": "x"}', "--app", "shop:app"],
            "schema Order:2: number: Input",
        ),
        (["orders.placed", '{"number"', "--app", "shop:app"], "is not valid JSON"),
        (["orders.placed", '{"number": NaN}', "--app", "shop:app"], "NaN"),
        (["orders.placed", ORDER], "name one with --app, or publish the bytes as they are with"),
        (["orders.placed", ORDER, "--app", "nix:app"], "there is no module 'nix'"),
        (["nix", ORDER, "--app", "shop:app"], "no schema is known of stream nix; name one with"),
        (
            ["plain", ORDER, "--app", "shop:app", "--schema", "Plain:2"],
            "registered: Note:1, Order:1",
        ),
        (
            [
                "orders.placed",
                '{"schema": "Order:1", "data": {}}',
                *("--app", "shop:app", "--schema", "Order:2"),
            ],
            "the message is an envelope of Order:1, but --schema is Order:2",
        ),
        (["or ders", ORDER, "--raw"], "'or ders' is not a valid topic name"),
        (["orders.placed", "@nix", "--raw"], "nix cannot be read: No such file"),
        (["orders.placed", ORDER, "--raw", "-H", "tenant"], "'tenant' is not a header; write"),
        (["orders.placed", "--tombstone"], "--tombstone needs a --key"),
        (["orders.placed", ORDER, "--raw", "--lines"], "--lines reads a file or the standard"),
        (["orders.placed", ORDER, "--raw", "--partition", "9"], "has no partition 9: it has 4"),
        (["orders.placed", ORDER, "--raw", "--kafka-servers", "embedded://"], "an empty one here"),
    ],
    ids=lambda value: value[-60:] if isinstance(value, str) else "",
)
def test_what_cannot_be_published_is_refused_with_the_remedy(
    arguments: list[str], problem: str, publish: Publish
) -> None:
    refused = publish(*arguments)

    assert refused.exit_code != 0
    assert isinstance(refused.exception, SystemExit)
    assert problem in refused.output
    assert "written" not in refused.output


def test_bytes_and_tombstones_are_written_as_they_are(
    publish: Publish, embedded_kafka: EmbeddedBroker
) -> None:
    publish("orders.placed", "--raw", "--key", "k", written=b"\xff\x00\n")
    publish("orders.placed", "--tombstone", "--key", "k")

    binary, tombstone = records(embedded_kafka, "orders.placed")
    assert (binary.value, tombstone.value, tombstone.key) == (b"\xff\x00\n", None, b"k")


def test_each_line_is_a_message(
    publish: Publish, embedded_kafka: EmbeddedBroker, tmp_path: Path
) -> None:
    (tmp_path / "orders.jsonl").write_text("".join(f'{{"number": {n}}}\n\n' for n in range(50)))

    done = publish("orders.placed", "@orders.jsonl", "--lines", "--app", "shop:app", "--key", "k")

    assert done.output == "50 messages written to orders.placed\n"
    written = [
        json.loads(each.value or b"") for each in records(embedded_kafka, "eu.orders.placed")
    ]
    assert [each["data"]["number"] for each in written] == list(range(50))


def test_a_wrong_line_is_named_and_the_lines_before_it_are_written(
    publish: Publish, embedded_kafka: EmbeddedBroker
) -> None:
    lines = b'{"number": 1}\n{"number": 2}\n{"number": "x"}\n{"number": 4}\n'

    refused = publish("orders.placed", "-", "--lines", "--app", "shop:app", written=lines)

    assert refused.exit_code == 1
    assert "message 3: data for topic eu.orders.placed does not satisfy" in refused.output
    assert "the 2 before it were published" in refused.output
    assert len(records(embedded_kafka, "eu.orders.placed")) == 2


def test_no_broker_is_an_error_that_names_the_address(
    publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKAESK_START_TIMEOUT", "0.5")

    refused = publish(*("orders.placed", ORDER, "--raw", "--kafka-servers", "127.0.0.1:1"))

    assert refused.exit_code == 3
    assert "127.0.0.1:1" in refused.output


def test_a_stream_that_several_schemas_may_mean_is_refused(publish: Publish) -> None:
    path = Path("shop.py")
    path.write_text(path.read_text().replace('"plain"', '"orders.placed"'))

    refused = publish("orders.placed", ORDER, "--app", "shop:app")

    assert refused.exit_code == 2
    assert "may carry Order:1, Order:2, Plain:1; say which one with --schema" in refused.output


def test_a_plugin_that_needs_a_running_service_to_write_is_named(publish: Publish) -> None:
    path = Path("shop.py")
    path.write_text(
        path.read_text()
        + """
from contextlib import asynccontextmanager

class Sealed:
    name, stage = "sealed", "deliver"

    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        yield

    @hookimpl
    async def wrap_publish(self, message, call_next):
        return await call_next(message)

app.plugins.register(Sealed())
"""
    )

    refused = publish("orders.placed", ORDER, "--app", "shop:app")

    assert refused.exit_code == 2
    assert "plugin 'sealed' decides what the bytes of records mean" in refused.output

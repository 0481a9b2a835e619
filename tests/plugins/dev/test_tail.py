"""`kafkaesk tail`: what is shown of a stream, from where to where, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from rich.cells import cell_len

from kafkaesk_dev.reading.contents import Content, ContentReader
from kafkaesk_dev.reading.positions import Position, parse_position
from kafkaesk_dev.reading.shown import as_text, shown_age, shown_time
from kafkaesk_testing import EmbeddedBroker
from kafkaesk_testing.fakes import incoming_message
from tests.programs import kafkaesk

from .conftest import Command

FIRST = 1_767_225_600_000  # 2026-01-01T00:00:00Z
ORDER = b'{"schema": "Order:1", "data": {"number": %d}}'


def write(broker: EmbeddedBroker, *values: bytes | None, topic: str = "orders") -> None:
    """To one partition after the other, a second of the records' time apart."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.servers) as producer:
            count = len(await producer.partitions_for(topic))
            for number, value in enumerate(values):
                key = b"even" if number % 2 == 0 else b"\xff\x00"
                await producer.send_and_wait(
                    topic,
                    value,
                    key,
                    number % count,
                    timestamp_ms=FIRST + 1000 * number,
                    headers=[("tenant", b"blue"), ("trace", b"\xfe")],
                )

    asyncio.run(send())


@pytest.fixture
def orders(embedded_kafka: EmbeddedBroker) -> EmbeddedBroker:
    """The orders 0 to 19, in four partitions."""
    write(embedded_kafka, *(ORDER % number for number in range(20)))
    return embedded_kafka


def numbers(output: str) -> list[int]:
    return [json.loads(line)["data"]["number"] for line in output.splitlines()]


def test_a_record_of_any_kind_is_shown(command: Command, embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topic("orders", partitions=1)
    kinds = (ORDER % 7, None, b'{"foreign": true}', b"plain text", b"\xff\xfe\x00", b"", b"[1" * 9)
    write(embedded_kafka, *kinds, b"a\x1b[31mb\xe2\x80\xaec", b"[" * 100_000)

    done = command("tail", "orders")

    assert done.exit_code == 0, done.output
    heads, values = done.output.splitlines()[::2], done.output.splitlines()[1::2]
    at = r"2026-01-01T00:00:00\.000Z \([\d,]+ d ago\)"
    assert re.fullmatch(
        rf"orders\[0\]@0  {at}  Order:1  key even  tenant=blue  trace=0xfe \(1 bytes\)", heads[0]
    )
    assert "key 0xff00 (2 bytes)" in heads[1]
    assert values[:6] == [
        '  {"number": 7}',
        "  (tombstone: no value)",
        '  {"foreign": true}',
        "  plain text",
        "  0xfffe00 (3 bytes)",
        "  (empty)",
    ]
    assert values[7] == r"  a\x1b[31mb\u202ec"
    assert values[8].endswith("[[... (100,000 bytes; --json shows all)")


def test_json_has_all_of_a_record(command: Command, embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topic("orders", partitions=1)
    write(embedded_kafka, ORDER % 7, b"\xff", None)

    lines = command("tail", "orders", "--json").output.splitlines()

    order, binary, tombstone = (json.loads(line) for line in lines)
    headers = [{"name": "tenant", "value": "blue"}, {"name": "trace", "value": {"base64": "/g=="}}]
    assert order == {
        "topic": "orders",
        "partition": 0,
        "offset": 0,
        "timestamp_ms": FIRST,
        "key": "even",
        "headers": headers,
        "schema": "Order:1",
        "data": {"number": 7},
    }
    assert (binary["key"], binary["value"]) == ({"base64": "/wA="}, {"base64": "/w=="})
    assert tombstone["value"] is None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], range(10, 20)),
        (["--from", "-3"], range(17, 20)),
        (["-n", "3"], range(17, 20)),
        (["--from", "-0"], []),
        (["--from", "begin"], range(20)),
        (["--from", "end"], []),
        (["--from", "3"], range(12, 20)),
        (["--from", "begin", "--until", "2"], range(8)),
        (["--from", "2026-01-01T00:00:15+00:00"], range(15, 20)),
        (["--from", "begin", "--until", "2026-01-01T00:00:04+00:00"], range(4)),
        (["--from", "5m"], []),
        (["--from", "begin", "--limit", "2"], range(2)),
        (["--from", "begin", "--partition", "1"], range(1, 20, 4)),
        (["--from", "begin", "--partition", "1", "--partition", "2", "--limit", "3"], [1, 2, 5]),
        (["--from", "begin", "--key", "even"], range(0, 20, 2)),
        (["--from", "begin", "--where", "/data/number=7"], [7]),
        (["--from", "begin", "--where", "/data/nix/0=7"], []),
        (["--from", "begin", "--schema", "Order", "--limit", "1"], [0]),
        (["--from", "begin", "--schema", "Order:2"], []),
        (["--from", "begin", "-H", "tenant=blue", "--limit", "1"], [0]),
        (["--from", "begin", "-H", "tenant=red"], []),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_is_asked_for_is_shown_in_the_order_of_time(
    arguments: list[str], shown: Any, command: Command, orders: EmbeddedBroker
) -> None:
    done = command("tail", "orders", "--json", *arguments)

    assert done.exit_code == 0, done.output
    assert numbers(done.output) == list(shown)


def test_records_are_counted(command: Command, orders: EmbeddedBroker) -> None:
    counted = command("tail", "orders", "--from", "begin", "--key", "even", "--count")

    assert counted.output == "10\n"


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["nix"], 3, "topic nix does not exist at 127.0.0.1"),
        (["order"], 3, "did you mean 'orders'?"),
        (["orders", "--partition", "9"], 2, "topic orders has no partition 9: it has 4, from 0"),
        (["orders", "--from", "yesterday"], 2, "'yesterday' is not a position in a stream"),
        (["orders", "--where", "number=7"], 2, "'number=7' is not a condition; write /data"),
        (["orders", "-n", "3", "--from", "2"], 2, "-n and --from both say where to begin"),
        (["orders", "-f", "--until", "5m"], 2, "--follow has no end; leave out --until"),
        (["orders", "--kafka-servers", "embedded://"], 2, "would be an empty one here"),
        (["orders", "--app", "nix:app"], 2, "there is no module 'nix'"),
    ],
)
def test_what_cannot_be_shown_is_an_error_with_the_remedy(
    arguments: list[str], code: int, problem: str, command: Command, orders: EmbeddedBroker
) -> None:
    refused = command("tail", *arguments)

    assert refused.exit_code == code, refused.output
    assert problem in refused.output
    assert isinstance(refused.exception, SystemExit)


def test_no_broker_is_an_error_that_names_the_address(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKAESK_START_TIMEOUT", "0.5")

    refused = command("tail", "orders", "--kafka-servers", "127.0.0.1:1")

    assert refused.exit_code == 3
    assert "127.0.0.1:1" in refused.output


def test_plain_json_of_a_stream_has_the_schema_of_the_application(
    command: Command, embedded_kafka: EmbeddedBroker
) -> None:
    write(embedded_kafka, b'{"number": 7}', topic="eu.plain")

    shown = command("tail", "plain", "--json", "--app", "shop:app")

    assert json.loads(shown.output)["schema"] == "Plain:1"


def test_a_follower_shows_what_comes_and_ends_with_ctrl_c(
    command: Command, orders: EmbeddedBroker, tmp_path: Path
) -> None:
    arguments = ("tail", "orders", "-f", "--from", "-1", "--json")
    with kafkaesk(*arguments, folder=tmp_path) as following:
        following.wait_for('"number": 19')
        write(orders, ORDER % 100)
        following.wait_for('"number": 100')
        code = following.end(signal.SIGINT)

    assert code == 0
    assert numbers(following.printed) == [19, 100]


def test_a_reader_that_closes_the_pipe_ends_it_quietly(
    command: Command, embedded_kafka: EmbeddedBroker, tmp_path: Path
) -> None:
    write(embedded_kafka, *(b"x" * 1000 for _ in range(300)))
    line = f"{sys.executable} -m kafkaesk_core tail orders --from begin | head -n 1"

    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.stdout.startswith("orders[0]@0")
    assert done.stderr == ""


@pytest.mark.parametrize("colour", [True, False], ids=["colours", "NO_COLOR"])
def test_a_terminal_is_shown_colours_unless_it_wants_none(
    colour: bool, command: Command, orders: EmbeddedBroker, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"} | ({} if colour else {"NO_COLOR": "1"})
    arguments = ("-m", "kafkaesk_core", "tail", "orders", "-n", "1")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, stdout=theirs, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)

    assert done.returncode == 0
    assert ("\x1b[" in shown) is colour
    assert "Order:1" in shown


def test_a_head_is_folded_to_the_columns_of_a_terminal(
    command: Command, orders: EmbeddedBroker, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "44"}
    arguments = ("-m", "kafkaesk_core", "tail", "orders", "-n", "1")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, stdout=theirs, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode().replace("\r", "").splitlines()
    os.close(ours)

    assert done.returncode == 0
    assert max(map(len, shown)) <= 44
    assert shown[0] == "orders[3]@4"
    assert shown[2:] == [
        "    Order:1  key 0xff00 (2 bytes)",
        "    tenant=blue  trace=0xfe (1 bytes)",
        '  {"number": 19}',
    ]


LONG = b"customer-" + b"0123456789" * 15


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (LONG, []),
        (None, [("tenant", LONG), ("x", b"1")]),
        (LONG, [("tenant", b"blue"), ("traceparent", LONG[:60]), (LONG.decode(), None)]),
        ("客户".encode() * 60, []),
        (b"\x1b[31m" * 30, [("a", "é".encode() * 99)]),
        (b"\xff" * 300, [("long", LONG)] * 3),
        (b"", [("", b"")]),
    ],
)
@pytest.mark.parametrize("columns", [80, 81, 33, 20, 1])
def test_a_head_is_never_wider_than_the_terminal_and_loses_nothing(
    key: bytes | None, headers: list[tuple[str, bytes | None]], columns: int
) -> None:
    made = incoming_message(ORDER % 7, headers=headers).record
    record = replace(made, key=key, topic="orders.placed.and-confirmed")
    content = ContentReader(None, "orders").read(record)

    def lines(columns: int | None) -> list[str]:
        text = as_text(record, content, 1.0, is_coloured=False, columns=columns)
        return text.splitlines()

    *head, value = lines(columns)
    whole, _ = lines(None)
    assert max(map(cell_len, head)) <= max(columns, 20)
    assert "".join("".join(head).split()) == "".join(whole.split())
    assert all(line.startswith("    ") for line in head[1:])
    assert value == '  {"number": 7}'


def test_the_parts_of_a_head_stay_whole_where_they_fit() -> None:
    headers = [("tenant", b"blue"), ("traceparent", LONG[:40])]
    record = replace(incoming_message(ORDER % 7, headers=headers).record, key=LONG[:60])
    content = ContentReader(None, "orders").read(record)

    shown = as_text(record, content, 1.0, is_coloured=False, columns=80).splitlines()

    assert shown[1:3] == [
        f"    key {LONG[:60].decode()}",
        f"    tenant=blue  traceparent={LONG[:40].decode()}",
    ]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("-100", Position("last", 100)),
        ("17", Position("offset", 17)),
        ("begin", Position("begin")),
        ("1970-01-01T00:00:01+00:00", Position("time", 1000)),
    ],
)
def test_a_place_in_a_stream_is_parsed(text: str, position: Position) -> None:
    assert parse_position(text) == position


@pytest.mark.parametrize("text", ["", "-", "--1", "1.5", "2w", "²", "1969-01-01", "٣"])
def test_what_is_no_place_in_a_stream_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a position in a stream"):
        parse_position(text)


@pytest.mark.parametrize(
    ("timestamp", "now", "shown"),
    [
        (0, 0.2, "0 s ago"),
        (0, 59, "59 s ago"),
        (0, 120, "2 min ago"),
        (0, 7200, "2 h ago"),
        (0, 86400 * 400, "400 d ago"),
        (10_000, 0, "in 10 s"),
        (-1, 0, "no time"),
    ],
)
def test_the_age_of_a_record_is_in_the_largest_unit(timestamp: int, now: float, shown: str) -> None:
    assert shown_age(timestamp, now) == shown


@pytest.mark.parametrize("timestamp", [-1, 2**63 - 1])
def test_a_time_that_no_calendar_has_is_shown_all_the_same(timestamp: int) -> None:
    assert shown_time(timestamp)


def test_what_a_codec_cannot_read_is_shown_with_the_reason() -> None:
    content = Content("text", data="abc", problem="ValueError: no magic byte")

    shown = as_text(incoming_message(b"abc").record, content, 0.0, is_coloured=False)

    assert shown.endswith("  abc\n  cannot be decoded: ValueError: no magic byte")


def test_a_value_without_an_application_is_read_as_it_is() -> None:
    assert ContentReader(None, "orders").read(incoming_message(b"NaN").record).kind == "text"
    assert ContentReader(None, "orders").read(incoming_message(b"7").record).data == 7

"""`kafkaesk inspect`: what an application is made of, and what becomes of one record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kafkaesk_testing import EmbeddedBroker

from .conftest import Command
from .test_tail import write


def handlers(command: Command, *arguments: str) -> dict[str, Any]:
    shown = command("inspect", "shop:app", *arguments, "--json")
    assert shown.exit_code == 0, shown.output
    return {each["group"]: each for each in json.loads(shown.output)["handlers"]}


def test_an_application_is_shown_without_a_broker(command: Command) -> None:
    shown = command("inspect", "shop:app", "--kafka-servers", "127.0.0.1:1")

    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert shown.exit_code == 0, shown.output
    assert "eu.orders.placed Order:1, Order:2 - -" in lines
    assert "shop.read readers notes.* Note:1 partition stop" in lines
    assert "Plain:1 shop.Plain plain -" in lines


def test_an_application_is_described_as_json(command: Command) -> None:
    shown = command("inspect", "shop:app", "--json")

    assert {each["stream"] for each in json.loads(shown.output)["streams"]} >= {"orders.placed"}


def test_a_record_is_shown_in_full_with_what_each_handler_would_get(
    command: Command, embedded_kafka: EmbeddedBroker
) -> None:
    note = b'{"schema": "Note:1", "data": {"text": "a [bold] word"}}'
    write(embedded_kafka, note, topic="eu.notes.new")

    shown = command("inspect", "shop:app", "eu.notes.new[0]@0")

    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert shown.exit_code == 0, shown.output
    assert "record eu.notes.new[0]@0" in lines
    assert "schema Note:1" in lines
    assert "tenant blue" in lines
    assert "trace 0xfe (1 bytes)" in lines
    assert '"text": "a [bold] word"' in lines
    assert "shop.read (group readers) takes Note" in lines
    assert "would get: Note(text='a [bold] word')" in lines


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b'{"schema": "Note:1", "data": {"text": 7}}', "text: Input should be a valid string"),
        (b'{"schema": "Order:1", "data": {"number": 7}}', "Order:1"),
        (b"\xff\xfe", "is not an envelope"),
        (b"{}", "is not an envelope"),
        (None, "no value"),
    ],
)
def test_a_record_that_a_handler_cannot_take_is_shown_with_the_reason(
    value: bytes | None, problem: str, command: Command, embedded_kafka: EmbeddedBroker
) -> None:
    write(embedded_kafka, value, topic="eu.notes.new")

    read = handlers(command, "eu.notes.new/0/0")["readers"]
    shown = command("inspect", "shop:app", "eu.notes.new/0/0")

    assert problem in read["problem"]
    assert read["data"] == ""
    assert "would fail: " in shown.output


@pytest.mark.parametrize(
    ("parameter", "taken"),
    [
        ("note: bytes", 'b\'{"schema": "Note:1"'),
        ("note", "{'schema': 'Note:1', 'data': {'text': 'x'}}"),
        ("note: list[Note]", "[Note(text='x')]"),
        ("note: Note | Order", "Note(text='x')"),
        ("note: kafkaesk_core.ConsumerRecord", "ConsumerRecord(topic='eu.notes.new'"),
        ("note: 'Note'", "Note(text='x')"),
    ],
)
def test_a_handler_of_any_type_is_shown_what_it_would_get(
    parameter: str, taken: str, command: Command, embedded_kafka: EmbeddedBroker
) -> None:
    path = Path("shop.py")
    path.write_text(path.read_text().replace("read(note: Note)", f"read({parameter})"))
    write(embedded_kafka, b'{"schema": "Note:1", "data": {"text": "x"}}', topic="eu.notes.new")

    read = handlers(command, "eu.notes.new/0/0")["readers"]

    assert read["problem"] == ""
    assert read["data"].startswith(taken)


def test_a_stream_that_no_handler_takes_says_so(
    command: Command, embedded_kafka: EmbeddedBroker
) -> None:
    write(embedded_kafka, b"{}", topic="eu.other")

    shown = command("inspect", "shop:app", "eu.other[0]@0")

    assert "no handler of this application takes the stream" in shown.output


@pytest.mark.parametrize(
    ("place", "code", "problem"),
    [
        ("eu.orders", 2, "'eu.orders' is not the place of a record; write topic[partition]@offset"),
        ("orders[0]@0", 2, "topic orders is not of this application, whose topics begin"),
        ("eu.nix[0]@0", 3, "topic eu.nix does not exist"),
        ("eu.orders[9]@0", 3, "eu.orders[9] does not exist: the topic has 4 partitions, from 0"),
        ("eu.orders[0]@7", 3, "eu.orders[0]@7 does not exist: the partition has offsets 0 to 0"),
        ("eu.orders[1]@0", 3, "eu.orders[1]@0 does not exist: the partition is empty"),
    ],
)
def test_a_record_that_is_not_there_is_an_error_that_says_what_is(
    place: str, code: int, problem: str, command: Command, embedded_kafka: EmbeddedBroker
) -> None:
    write(embedded_kafka, b"{}", topic="eu.orders")

    refused = command("inspect", "shop:app", place)

    assert refused.exit_code == code, refused.output
    assert problem in " ".join(refused.output.split())

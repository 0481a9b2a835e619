"""The command `kafkaesk logs`: what it reads back, until when, and what it prints."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.structs import ConsumerRecord
from click.testing import CliRunner, Result

from kafkaesk_core import Application, BrokerUnreachableError
from kafkaesk_core.cli import cli
from kafkaesk_logging import PydanticKafkaeskHandler
from kafkaesk_logging.read.command import logs
from kafkaesk_logging.read.reader import StreamReader
from kafkaesk_logging.read.text import LinePrinter, format_line, level_of
from kafkaesk_testing import EmbeddedBroker, Kafka, eventually
from kafkaesk_testing.embedded_broker import ApiKey
from tests.programs import LIMIT, Program

FIRST = 1_767_225_600_000  # 2026-01-01T00:00:00Z
ESCAPE = "\x1b["


def line(message: str, level: str = "INFO", **more: Any) -> bytes:
    """A log line as the handler puts it on the wire."""
    number = logging.getLevelNamesMapping()[level]
    base = {"timestamp": "2026-01-01T00:00:00.123456Z", "logger": "shop", "severity": level}
    data = {**base, "level": number, "message": message, "exception": None, **more}
    return json.dumps({"schema": "PydanticLogModel:1", "data": data}).encode()


async def publish(servers: list[str], *values: bytes | None, topic: str = "logs") -> None:
    """To one partition after the other, a second of the records' time apart."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        count = len(await producer.partitions_for(topic))
        for number, value in enumerate(values):
            at, partition = FIRST + 1000 * number, number % count
            await producer.send_and_wait(topic, value, b"key", partition, timestamp_ms=at)


@pytest.fixture
def broker(embedded_kafka: EmbeddedBroker) -> EmbeddedBroker:
    embedded_kafka.create_topic("logs", partitions=1)
    return embedded_kafka


@pytest.fixture
def run(
    embedded_kafka: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Run the command in this process; what it does to aiokafka's logger is undone."""
    monkeypatch.setenv("KAFKAESK_KAFKA_SERVERS", embedded_kafka.host_port)
    level = logging.getLogger("aiokafka").level
    yield lambda *arguments: CliRunner().invoke(logs, list(arguments))
    logging.getLogger("aiokafka").setLevel(level)


class Reading(Program):
    """The command in a process of its own, and what it has printed."""

    def __init__(self, folder: Path, servers: list[str], *arguments: str, **options: str) -> None:
        environment = {"KAFKAESK_KAFKA_SERVERS": ",".join(servers), **options}
        super().__init__(
            *(sys.executable, "-m", "kafkaesk_core", "logs", *arguments),
            folder=folder,
            errors=folder / "errors",
            environment=environment,
        )

    async def has_printed(self, text: str) -> None:
        await eventually(lambda: text in self.printed, within=LIMIT)

    async def has_reported(self, text: str) -> None:
        await eventually(lambda: text in self.errors.read_text(), within=LIMIT)


Read = Callable[..., Reading]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    """Start the command; it is killed in the end."""
    started: list[Reading] = []

    def start(servers: list[str], *arguments: str, **options: Any) -> Reading:
        started.append(Reading(tmp_path, servers, *arguments, **options))
        return started[-1]

    yield start
    for reading in started:
        reading.kill()


# --- what is printed


def test_what_a_handler_shipped_is_read_back(
    run: Callable[..., Result], app: Application, logger: logging.Logger
) -> None:
    async def ship() -> None:
        logger.addHandler(PydanticKafkaeskHandler(app))
        async with app:
            logger.warning("no %s left", "coffee", extra={"order": 7, "article": "a coffee"})
            try:
                raise ValueError("no")
            except ValueError:
                logger.exception("failed")

    asyncio.run(ship())
    result = run("logs")

    assert result.exit_code == 0
    assert result.stderr == ""
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    first, second, *below = result.stdout.splitlines()
    expected = f'{stamp} WARNING  shop.orders: no coffee left order=7 article="a coffee"'
    assert re.fullmatch(expected, first)
    assert re.fullmatch(f"{stamp} ERROR    shop.orders: failed", second)
    assert below[0] == "    Traceback (most recent call last):"
    assert below[-1] == "    ValueError: no"


def test_lines_of_several_partitions_come_in_the_order_of_time(
    embedded_kafka: EmbeddedBroker, run: Callable[..., Result]
) -> None:
    embedded_kafka.create_topic("many", partitions=3)
    texts = [f"line {number}" for number in range(40)]
    asyncio.run(publish(embedded_kafka.servers, *map(line, texts), topic="many"))

    result = run("many")

    assert [printed.split(": ")[1] for printed in result.stdout.splitlines()] == texts


@pytest.mark.parametrize("level", ["warning", "WARNING", "30", "21"])
def test_level_is_a_minimum_and_a_line_without_one_is_kept(
    broker: EmbeddedBroker, run: Callable[..., Result], level: str
) -> None:
    names = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    strange = line("strange").replace(b'"level": 20', b'"level": null').replace(b"INFO", b"LOUD")
    asyncio.run(publish(broker.servers, *(line(name, name) for name in names), strange))

    result = run("logs", "--level", level)

    messages = [printed.split(": ")[1] for printed in result.stdout.splitlines()]
    assert messages == ["WARNING", "ERROR", "CRITICAL", "strange"]


@pytest.mark.parametrize("pattern", ["c.ffee", "(?i)COFFEE", "order=7", "in pay"])
def test_grep_searches_the_message_the_fields_and_the_traceback(
    broker: EmbeddedBroker, run: Callable[..., Result], pattern: str
) -> None:
    found = line("coffee", order=7, trace="Traceback\n  in pay")
    asyncio.run(publish(broker.servers, line("tea"), found, line("cup")))

    result = run("logs", "--grep", pattern)

    assert result.stdout.count("shop:") == 1
    assert "coffee order=7" in result.stdout


def test_json_prints_all_fields_one_object_per_line(
    broker: EmbeddedBroker, run: Callable[..., Result]
) -> None:
    values = [line("one\ntwo", hostname="pod-1", total=1.5), line("\u00fc\ud800", "ERROR")]
    asyncio.run(publish(broker.servers, *values))

    result = run("logs", "--json", "--level", "info", "--grep", ".")

    printed = [json.loads(text) for text in result.stdout.splitlines()]
    assert printed == [json.loads(value)["data"] for value in values]


def test_records_that_are_no_logs_are_told_once_per_kind_and_counted(
    broker: EmbeddedBroker, run: Callable[..., Result]
) -> None:
    others = [
        *(b"\xff\x00", b"not json", b"[" * 100_000, None, b"[]", b'{"a": 1}'),
        b'{"schema": "Order:1", "data": {}}',
        b'{"schema": "PydanticLogModel:1", "data": []}',
        b'{"schema": {"a": 1}, "data": {}}',
    ]
    asyncio.run(publish(broker.servers, line("before"), *others, line("after")))

    result = run("logs", "--json")

    assert result.exit_code == 0
    assert [json.loads(t)["message"] for t in result.stdout.splitlines()] == ["before", "after"]
    assert result.stderr.splitlines() == [
        "kafkaesk: logs[0]@1 is not a log line: it is not valid JSON",
        "kafkaesk: logs[0]@4 is not a log line: it has no value",
        "kafkaesk: logs[0]@5 is not a log line: it has no schema",
        "kafkaesk: logs[0]@7 is not a log line: its schema is 'Order:1'",
        "kafkaesk: logs[0]@8 is not a log line: its data is not an object",
        "kafkaesk: logs[0]@9 is not a log line: its schema is {'a': 1}",
        "kafkaesk: 9 records were not log lines",
    ]


STRANGE = [
    ({}, "2026-01-01T00:00:00.000Z -        -: "),
    ({"timestamp": 5, "level": "x", "logger": 1, "message": None}, "5 -        1: None"),
    ({"timestamp": "now\n", "severity": 7, "message": [1]}, "now\\n 7        -: [1]"),
    ({"level": 35, "message": "m"}, "2026-01-01T00:00:00.000Z 35       -: m"),
    (
        {"message": "m", "a\n": "b c", "n": None},
        '2026-01-01T00:00:00.000Z -        -: m a\\n="b c"',
    ),
    (
        {"message": "m", "topic": "orders", "partition": 0, "offset": 7, "group": "billing"},
        "2026-01-01T00:00:00.000Z -        -: m record=orders[0]@7",
    ),
    ({"topic": "orders"}, "2026-01-01T00:00:00.000Z -        -:  record=orders[?]@?"),
    (
        {"message": "m", "exception": "KeyError", "exception_message": "'a'"},
        "2026-01-01T00:00:00.000Z -        -: m exception=KeyError exception_message='a'",
    ),
    (
        {"message": "m", "trace": "one\ntwo\n", "stack": 3},
        "2026-01-01T00:00:00.000Z -        -: m\n    one\n    two\n    3",
    ),
    (
        {"message": "m", "deep": {"list": [1, "\u00fc"]}},
        '2026-01-01T00:00:00.000Z -        -: m deep={"list": [1, "\u00fc"]}',
    ),
]


@pytest.mark.parametrize(("fields", "expected"), STRANGE)
def test_a_line_of_any_fields_is_format_line(fields: dict[str, Any], expected: str) -> None:
    assert format_line(fields, FIRST) == expected


def test_a_level_is_known_by_its_number_or_its_name() -> None:
    levels = [level_of({"level": 35}), level_of({"severity": "error"}), level_of({"level": True})]

    assert levels == [35, 40, None]


def test_what_was_logged_neither_steers_the_terminal_nor_looks_like_another_line() -> None:
    forged = "2026-01-01T00:00:00.000Z CRITICAL shop: forged"
    nasty = f"\x1b]0;title\x07\r\x9b2J\u202e\u2028\n{forged}"
    names = ("timestamp", "severity", "logger", "message", "trace", "exception", "field")

    for name in names:
        printed = format_line({name: nasty}, FIRST)

        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", printed), name
        assert not re.search("^20.*forged", printed[1:], re.MULTILINE), name


def printed_by(**options: Any) -> list[str]:
    output = io.StringIO()
    printer = LinePrinter(output, pytest.fail, **options)
    record = ConsumerRecord("logs", 0, 0, FIRST, 0, None, line("m", "ERROR"), None, 0, 0, ())
    printer.show(record)
    printer.finish()
    return output.getvalue().splitlines()


def test_colour_changes_nothing_but_the_colour() -> None:
    (coloured,) = printed_by(is_coloured=True)

    assert f"{ESCAPE}31m" in coloured
    assert [re.sub(r"\x1b\[\d+m", "", coloured)] == printed_by()
    assert printed_by(is_coloured=True, as_json=True) == printed_by(as_json=True)


def on_a_terminal(**environment: str) -> str:
    """What the command prints there, of a stream of one line."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kafkaesk_core", "logs", "logs"]
    try:
        subprocess.run(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, **environment},
            timeout=LIMIT,
            check=True,
        )
        return os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_gets_colour(broker: EmbeddedBroker) -> None:
    asyncio.run(publish(broker.servers, line("caf\u00e9")))

    printed = on_a_terminal(KAFKAESK_KAFKA_SERVERS=broker.host_port, PYTHONIOENCODING="utf-8")

    assert "caf\u00e9" in printed
    assert ESCAPE in printed


def test_a_terminal_without_colour_and_unicode_gets_neither(broker: EmbeddedBroker) -> None:
    asyncio.run(publish(broker.servers, line("caf\u00e9")))
    poor = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}

    printed = on_a_terminal(KAFKAESK_KAFKA_SERVERS=broker.host_port, **poor)

    assert "shop: caf\\xe9" in printed
    assert ESCAPE not in printed


# --- from where, and until when


async def taken(reader: StreamReader, count: int = 0) -> list[bytes | None]:
    """Follow until there were so many records; without a number, read to the end."""
    values: list[bytes | None] = []
    async with aclosing(reader.records(follow=count > 0)) as batches:
        async for records in batches:
            values += [record.value for record in records]
            if count and len(values) >= count:
                break
    return values


def reader_of(
    servers: list[str],
    tell: Callable[[str], None],
    stream: str = "logs",
    patience: float = LIMIT,
    **settings: Any,
) -> StreamReader:
    application = Application(servers, entry_points=False, **settings)
    return StreamReader(application.settings, stream, tell, patience=patience)


async def test_it_joins_no_group_and_commits_nothing(broker: EmbeddedBroker) -> None:
    broker.track_requests()

    reading = asyncio.create_task(taken(reader_of(broker.servers, pytest.fail), 2))
    await eventually(lambda: ApiKey.FETCH in {request.api_key for request in broker.requests()})
    await publish(broker.servers, line("one"), line("two"))

    assert await asyncio.wait_for(reading, LIMIT) == [line("one"), line("two")]
    asked = {request.api_key for request in broker.requests()}
    assert asked.isdisjoint(
        {ApiKey.FIND_COORDINATOR, ApiKey.JOIN_GROUP, ApiKey.OFFSET_COMMIT, ApiKey.OFFSET_FETCH}
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_follow_prints_what_comes_until_a_signal(
    broker: EmbeddedBroker, read: Read, number: signal.Signals
) -> None:
    await publish(broker.servers, line("one"))
    reading = read(broker.servers, "logs", "--follow")
    await reading.has_printed("one")

    await publish(broker.servers, line("two"), b"other", line("three"), b"other")
    await reading.has_printed("three")
    await reading.has_reported("it is not valid JSON")
    code = await asyncio.to_thread(reading.end, number)

    assert code == 0
    assert re.findall("shop: (.*)", reading.printed) == ["one", "two", "three"]
    assert "Traceback" not in reading.errors.read_text()


@pytest.fixture
async def admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def topic() -> str:
    return f"logs-{uuid.uuid4().hex[:8]}"


async def test_follow_waits_for_a_stream_that_is_not_there_yet(
    kafka: Kafka, admin: AIOKafkaAdminClient, topic: str
) -> None:
    told: list[str] = []
    reading = asyncio.create_task(taken(reader_of(kafka.servers, told.append, topic), 2))
    await eventually(lambda: told != [], within=LIMIT)

    await admin.create_topics([NewTopic(topic, 2, 1)])
    await publish(kafka.servers, line("one"), line("two"), topic=topic)

    assert set(await asyncio.wait_for(reading, LIMIT)) == {line("one"), line("two")}
    assert told == [f"topic {topic} does not exist yet; waiting for it"]


async def test_follow_reads_partitions_that_a_topic_gets_later(
    kafka: Kafka, admin: AIOKafkaAdminClient, topic: str
) -> None:
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await publish(kafka.servers, line("one"), topic=topic)
    batches = reader_of(kafka.servers, pytest.fail, topic).records(follow=True)
    assert [record.value for record in await anext(batches)] == [line("one")]

    await admin.create_partitions({topic: NewPartitions(2)})
    await publish(kafka.servers, line("two"), line("three"), topic=topic)

    async with aclosing(batches), asyncio.timeout(LIMIT):
        later: list[bytes | None] = []
        while len(later) < 2:
            later += [record.value for record in await anext(batches)]
    assert set(later) == {line("two"), line("three")}


async def test_reading_ends_where_a_transaction_ends_the_log(
    kafka: Kafka, admin: AIOKafkaAdminClient, topic: str
) -> None:
    """The last offset is no record there."""
    await admin.create_topics([NewTopic(topic, 1, 1)])
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, transactional_id=topic)
    async with producer, producer.transaction():
        await producer.send_and_wait(topic, line("one"))

    reader = reader_of(kafka.servers, pytest.fail, topic)

    assert await asyncio.wait_for(taken(reader), LIMIT) == [line("one")]


def test_a_partition_without_a_leader_is_named(
    broker: EmbeddedBroker, run: Callable[..., Result]
) -> None:
    broker.set_leader("logs", 0, -1)

    result = run("logs")

    assert result.exit_code == 3
    assert "partition 0 of topic logs has no leader now" in result.stderr


def test_an_empty_stream_ends_at_once(broker: EmbeddedBroker, run: Callable[..., Result]) -> None:
    result = run("logs")

    assert (result.exit_code, result.output) == (0, "")


async def test_a_reader_of_the_output_that_leaves_is_no_crash(broker: EmbeddedBroker) -> None:
    await publish(broker.servers, *(line("x" * 900) for _ in range(500)))

    command = f"{sys.executable} -m kafkaesk_core logs logs | head -1"
    shell = await asyncio.create_subprocess_shell(
        command,
        env={**os.environ, "KAFKAESK_KAFKA_SERVERS": broker.host_port},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(shell.communicate(), LIMIT)

    assert output.count(b"\n") == 1
    assert errors == b""


async def test_follow_tells_once_that_no_broker_answers_and_goes_on(broker: EmbeddedBroker) -> None:
    await publish(broker.servers, line("one"))
    told: list[str] = []
    reading = asyncio.create_task(taken(reader_of(broker.servers, told.append, patience=1.0), 2))
    broker.track_requests()
    await eventually(lambda: any(r.api_key == ApiKey.FETCH for r in broker.requests()))

    broker.set_down()
    await eventually(lambda: told != [], within=LIMIT)
    broker.set_up()
    await publish(broker.servers, line("two"))

    assert await asyncio.wait_for(reading, LIMIT) == [line("one"), line("two")]
    assert len(told) == 1
    assert told[0].endswith("still trying")


async def test_reading_ends_with_an_error_when_the_broker_stays_away(
    broker: EmbeddedBroker,
) -> None:
    await publish(broker.servers, line("one"))
    broker.push_errors(ApiKey.FETCH, *([6] * 1000))  # not the leader, for ever
    started = time.monotonic()

    with pytest.raises(BrokerUnreachableError, match=broker.host_port):
        await taken(reader_of(broker.servers, pytest.fail, start_timeout=1.5))

    assert 1.5 <= time.monotonic() - started < 10


# --- settings


def test_a_missing_stream_is_told_in_one_line(run: Callable[..., Result]) -> None:
    result = run("nowhere")

    assert result.exit_code == 3
    assert re.fullmatch(
        r"kafkaesk: topic nowhere does not exist at [\d.:]+, or .*\n", result.stderr
    )


WRONG = [
    (("logs", "--kafka-servers", "127.0.0.1:1"), 3, "refuses the connection"),
    (("logs", "--kafka-servers", "embedded://"), 2, "embedded:// is a broker inside"),
    (("logs", "--kafka-servers", ","), 2, "no Kafka servers are configured"),
    (("logs", "--kafka-settings", "{"), 2, "--kafka-settings is not valid JSON"),
    (("logs", "--kafka-settings", "[]"), 2, "write an object"),
    (("logs", "--kafka-settings", '{"acks": 7}'), 2, "use one of"),
    (("logs", "--level", "loud"), 2, "'loud' is not one of"),
    (("logs", "--grep", "("), 2, "not a valid regular expression"),
    (("logs", "--app", "nowhere:app"), 2, "there is no module 'nowhere'"),
    ((), 2, "Missing argument 'STREAM'"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), WRONG)
def test_what_is_wrong_is_told_without_a_traceback(
    run: Callable[..., Result], arguments: tuple[str, ...], code: int, text: str
) -> None:
    result = run(*arguments)

    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_the_prefix_and_the_client_are_those_of_the_options(
    embedded_kafka: EmbeddedBroker, run: Callable[..., Result]
) -> None:
    asyncio.run(publish(embedded_kafka.servers, line("one"), topic="test.logs"))

    result = run("logs", "--topic-prefix", "test.", "--kafka-settings", '{"client_id": "me"}')

    assert "shop: one" in result.stdout


def test_the_settings_of_an_application_are_taken(
    embedded_kafka: EmbeddedBroker,
    run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asyncio.run(publish(embedded_kafka.servers, line("one"), topic="shop.logs"))
    text = "import kafkaesk_core\napp = kafkaesk_core.Application({!r}, topic_prefix='shop.')"
    (tmp_path / "logged_shop.py").write_text(text.format(embedded_kafka.host_port))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAFKAESK_KAFKA_SERVERS")
    monkeypatch.setattr(sys, "path", [*sys.path])

    result = run("logs", "--app", "logged_shop:app")

    assert "shop: one" in result.stdout


def test_the_command_is_one_of_kafkaesk() -> None:
    listed = CliRunner().invoke(cli, ["-h"])
    shown = CliRunner().invoke(cli, ["logs", "--help"])

    assert re.search(r"^ +logs ", listed.output, re.MULTILINE)
    for option in ("--follow", "--level", "--grep", "--json", "KAFKAESK_KAFKA_SERVERS"):
        assert option in shown.output

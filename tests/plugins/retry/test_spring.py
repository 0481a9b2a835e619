"""Dead letters of the style "spring", as a service in Java reads them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from kafkaesk_retry.failure import Failure
from kafkaesk_retry.letter import Letter, Origin
from kafkaesk_retry.places import Place
from kafkaesk_testing import eventually
from kafkaesk_testing.kafka_install import cache_directory, find_java

from .conftest import Make

SPRING = "org.springframework.kafka:spring-kafka:4.0.0"
FOLDER = cache_directory() / "spring"
READER = Path(__file__).with_name("ReadDeadLetter.java")


@pytest.fixture
def spring(kafka_jars: Path) -> Path:
    """The names of Spring's headers, in its own package, which Maven fetches once per user."""
    if not any(FOLDER.glob("spring-kafka-*.jar")):
        if shutil.which("mvn") is None:
            pytest.skip("Spring's package is not there, and mvn is not on PATH")
        fetch = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={SPRING}"]
        subprocess.run([*fetch, f"-DoutputDirectory={FOLDER}"], check=True, timeout=120)
    return FOLDER


async def test_java_reads_the_headers_by_springs_names_and_types(
    service: Make, spring: Path
) -> None:
    one, group = service(style="spring", attempts=2), f"g{uuid4().hex[:8]}"

    @one.app.subscribe("in", group)
    async def handle(data: bytes) -> None:
        raise ValueError("always, größer") from KeyError("cause")

    sent = await (await one.app.raw_publish("in", b"x", timestamp_ms=2**40 + 77))
    await one.start()
    await eventually(lambda: one.plugin.counts["dead"] == 1, within=20)
    (dead,) = await one.read(f"dlq.{group}.in")

    read = await asyncio.to_thread(read_by_java, one.servers[0], dead.topic, dead.partition, spring)

    assert read.pop("kafka_dlt-exception-stacktrace").endswith("ValueError: always, größer\\n")
    assert read == {
        "kafka_dlt-original-topic": f"string {sent.topic}",
        "kafka_dlt-original-partition": f"int {sent.partition}",
        "kafka_dlt-original-offset": f"long {sent.offset}",
        "kafka_dlt-original-timestamp": f"long {2**40 + 77}",
        "kafka_dlt-original-timestamp-type": "string CreateTime",
        "kafka_dlt-original-consumer-group": f"string {group}",
        "kafka_dlt-exception-fqcn": "string ValueError",
        "kafka_dlt-exception-cause-fqcn": "string KeyError",
        "kafka_dlt-exception-message": "string always, größer",
        "kafka_deliveryAttempt": "int 2",
    }
    assert not [name for name, _ in dead.headers if name.startswith("__dlq.errors.")]


def read_by_java(server: str, topic: str, partition: int, spring: Path) -> dict[str, str]:
    """What the program in Java prints of the first record, by header."""
    java = find_java()
    command = [
        *(java.executable, "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"),
        "-Dstdout.encoding=UTF-8",  # of Java 18 and newer
        *("-cp", f"{java.jars}/*:{spring}/*", str(READER), server, topic, str(partition)),
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@pytest.mark.parametrize(
    ("timestamp_ms", "timestamp_type", "expected"),
    [
        (77, 0, (77, b"CreateTime")),
        (77, 1, (77, b"LogAppendTime")),
        (None, None, (-1, b"NoTimestampType")),
    ],
)
def test_the_timestamp_says_whose_it_is(
    timestamp_ms: int | None, timestamp_type: int | None, expected: tuple[int, bytes]
) -> None:
    letter = Letter(
        origin=Origin(Place("in", 0, 1)),
        group="g",
        handler="h",
        failure=Failure("ValueError", "", "", "f"),
        deliveries=1,
        failed_at_ms=0,
        key=None,
        value=None,
        headers=[],
        timestamp_ms=timestamp_ms,
        timestamp_type=timestamp_type,
    )

    headers = dict(letter.all_headers("spring"))

    number = int.from_bytes(headers["kafka_dlt-original-timestamp"] or b"", "big", signed=True)
    assert (number, headers["kafka_dlt-original-timestamp-type"]) == expected

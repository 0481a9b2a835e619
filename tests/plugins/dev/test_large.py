"""`kafkaesk tail` over very many records, in memory that does not grow with their number.

LARGE=1 uv run pytest -n 0 -s tests/plugins/dev/test_large.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from kafkaesk_testing import Kafka

FEW, MANY, MORE_MEGABYTES = 10_000, 1_000_000, 40
ORDER = b'{"schema": "Order:1", "data": {"number": %d, "article": "a coffee", "note": "%s"}}'
NOTE = b"leave it at the door, please, and ring twice " * 3


@pytest.mark.skipif(not os.environ.get("LARGE"), reason="it takes three minutes")
@pytest.mark.timeout(900)
async def test_a_million_records_take_no_more_memory_than_few(kafka: Kafka, tmp_path: Path) -> None:
    topics = {count: f"tail-{count}-{uuid.uuid4().hex[:8]}" for count in (FEW, MANY)}
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 4, 1) for topic in topics.values()])
    await admin.close()
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.servers, linger_ms=20, max_batch_size=256 * 1024
    ) as producer:
        for count, topic in topics.items():
            for number in range(count):
                # One partition after the other, so that their times are not mixed.
                sent = await producer.send(
                    topic, ORDER % (number, NOTE), partition=number * 4 // count
                )
            await sent
            await producer.flush()

    peaks = {}
    for what in (["--count"], ["-n", "10"], []):
        for count, topic in topics.items():
            began = time.monotonic()
            arguments = [topic, *(what if "-n" in what else ["--from", "begin", *what])]
            lines, peaks[count] = listed(kafka, tmp_path, arguments)
            took = time.monotonic() - began
            sys.stdout.write(
                f"tail {' '.join(arguments[1:]):24}{count:10,} records: {took:6.1f} s, "
                f"{peaks[count]:4.0f} MB, {lines:,} lines\n"
            )
            assert lines == {"--count": 1, "-n": 20}.get(what[0] if what else "", 2 * count)
        assert peaks[MANY] - peaks[FEW] < MORE_MEGABYTES


def listed(kafka: Kafka, folder: Path, arguments: list[str]) -> tuple[int, float]:
    """Run the command; return how many lines it printed and the megabytes that it took."""
    program = (
        "import resource, sys\nfrom kafkaesk_core.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "    print(peak, file=sys.stderr)\n"
    )
    environment = {**os.environ, "KAFKAESK_KAFKA_SERVERS": ",".join(kafka.servers)}
    out = folder / "printed"
    with out.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", program, "tail", *arguments],
            env=environment,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
    with out.open("rb") as file:
        lines = sum(1 for _ in file)
    return lines, float(done.stderr.split()[-1])

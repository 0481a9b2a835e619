"""An optional library that is not installed is told with the command that installs it.

Each case runs in a process in which the library cannot be imported.
"""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

WITHOUT = """
import sys
for name in ("cramjam", "gssapi"):
    sys.modules[name] = None
"""
START = """
import asyncio
from kafkaesk_core import Application, ConfigurationError
app = Application("localhost:1", kafka_settings={settings}, entry_points=False)
try:
    asyncio.run(app.initialize())
except ConfigurationError as error:
    print(error)
"""
READ = """
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from kafkaesk_core.kafka.records import Salvage
batch = MemoryRecords(bytes.fromhex({batch!r}))
partition = TopicPartition("orders", 3)
records = PartitionRecords(partition, batch, [], 0, None, None, True, 0)
for record in Salvage().records(partition, records):
    print(record.error)
"""
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
CHECKSUM, ATTRIBUTES = 17, 22
"""Where they are in a batch; the lowest bits of the latter are the codec (format v2)."""


def said_without_libraries(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
def test_a_compression_without_its_library_is_refused_at_start(codec: str) -> None:
    said = said_without_libraries(START.format(settings={"compression_type": codec}))

    assert said == (
        f"compression_type={codec} needs a library that is not installed; "
        f"pip install kafkaesk-core[{codec}]"
    )


def test_kerberos_without_its_library_is_refused_at_start() -> None:
    settings = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "GSSAPI"}

    said = said_without_libraries(START.format(settings=settings))

    assert said.endswith("not installed; pip install kafkaesk-core[gssapi]")


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
def test_a_compressed_batch_that_cannot_be_read_names_its_topic_and_the_remedy(codec: str) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000)
    builder.append(0, 0, None, b"x" * 500, [])
    batch = bytearray(builder.build())
    batch[ATTRIBUTES] = CODECS[codec]
    struct.pack_into(">I", batch, CHECKSUM, calc_crc32c(bytes(batch[CHECKSUM + 4 :])))

    said = said_without_libraries(READ.format(batch=batch.hex()))

    assert said == (
        f"topic orders has records compressed with {codec}, for which no library is installed; "
        f"pip install kafkaesk-core[{codec}]"
    )

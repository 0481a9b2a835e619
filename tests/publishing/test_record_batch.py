"""Batches of ours are aiokafka's: they touch what it keeps to itself, and must follow it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from kafkaesk_core.kafka.producer import Producer, RecordBatch, read_records
from kafkaesk_testing import EmbeddedBroker

RECORDS: list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
    (1_000, None, b"value", []),
    (1_001, b"key", None, []),
    (999, b"", b"", [("a", b"1"), ("b", None), ("a", b"")]),
]


@pytest.mark.parametrize("compression", [0, 1])
def test_a_batch_has_the_bytes_of_aiokafkas_own(compression: int) -> None:
    ours, theirs = RecordBatch(4096, compression), BatchBuilder(4096, compression)
    for index, (timestamp, key, value, headers) in enumerate(RECORDS):
        record = ours.append(timestamp, key, value, headers)
        theirs.append(timestamp=timestamp, key=key, value=value, headers=headers)
        assert record is not None
        assert (record.offset, record.timestamp) == (index, timestamp)

    assert ours.record_count() == theirs.record_count() == len(RECORDS)
    assert ours._build() == theirs._build()
    assert [tuple(record) for record in read_records(ours)] == [
        (key, value, headers, timestamp) for timestamp, key, value, headers in RECORDS
    ]


def test_a_full_batch_takes_no_more_and_a_closed_one_none() -> None:
    ours, theirs = RecordBatch(200, 0), BatchBuilder(200, 0)
    taken = [ours.append(1, None, b"x" * 60, []) for _ in range(4)]
    expected = [theirs.append(timestamp=1, key=None, value=b"x" * 60, headers=[]) for _ in range(4)]

    assert [record is None for record in taken] == [record is None for record in expected]
    assert taken[0] is not None
    assert taken[-1] is None
    assert ours.closed()
    assert ours.append(1, None, b"", []) is None
    assert ours._build() == theirs._build()


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [("text", b"", []), (None, "text", []), (None, b"", [("a", "text")]), (None, b"", [(1, b"")])],
)
def test_a_record_of_a_wrong_type_is_refused_and_leaves_the_batch_as_it_was(
    key: Any, value: Any, headers: Any
) -> None:
    ours = RecordBatch(4096, 0)
    ours.append(1, None, b"first", [])

    with pytest.raises((TypeError, AttributeError)):
        ours.append(2, key, value, headers)

    assert ours.record_count() == 1


async def test_the_batches_of_a_producer_have_its_limit_and_its_compression() -> None:
    options = {"max_batch_size": 1234, "compression_type": "gzip"}
    producer = Producer(["localhost:1"], options)
    client = AIOKafkaProducer(bootstrap_servers="localhost:1", **options)
    expected, batch = client.create_batch(), producer.create_batch()
    await producer.close(1.0)
    await client.stop()

    for builder in (expected, batch):
        while builder.append(timestamp=1, key=None, value=b"x" * 50, headers=[]) is not None:
            pass

    assert batch.record_count() == expected.record_count()
    assert batch._build() == expected._build()


@pytest.mark.rule_36
async def test_a_batch_is_not_offered_behind_another_nor_to_a_closed_producer() -> None:
    """Behind a refused batch it would fail for no reason of its own (K32, K33)."""
    with EmbeddedBroker(topics={"orders": 1}) as broker:
        producer = Producer([broker.servers[0]])
        await producer.start(5.0)
        try:
            await producer.partitions("orders")
            batches = [producer.create_batch() for _ in range(3)]
            for batch in batches:
                assert batch.append(None, None, b"value", [])
                batch.close()

            first = producer.offer_batch(batches[0], "orders", 0)
            assert producer.offer_batch(batches[1], "orders", 0) is None
            assert first is not None
            async with asyncio.timeout(5.0):
                metadata = await first.future
        finally:
            await producer.close(5.0)

        assert metadata is not None
        assert metadata.offset == 0
        assert producer.offer_batch(batches[2], "orders", 0) is None

"""A record that the client's parser refuses fails alone: all others are handed out (C7)."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiokafka.codec
import pytest
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import DecodeError, Stop
from kafkaesk_core.kafka.records import Salvage, take_records
from kafkaesk_core.message import Unreadable

PARTITION = TopicPartition("orders", 3)
HEADER = _DefaultRecordBatchPy.HEADER_STRUCT
CRC_AT, ATTRIBUTES_AT = _DefaultRecordBatchPy.CRC_OFFSET, _DefaultRecordBatchPy.ATTRIBUTES_OFFSET

Damage = Callable[[bytearray], None]


def batch(base: int, count: int = 3, *, codec: int = 0) -> bytearray:
    """A batch as brokers have it: values v0, v1, ... with one header each."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 16)
    for n in range(count):
        builder.append(n, 1700 + n, b"key", b"v%d" % n, [(f"name{n}", b"x")])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    return data


def signed(data: bytearray) -> bytearray:
    """With the checksum of what it is now: a producer wrote it so."""
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
    return data


def replaced(data: bytearray, old: bytes, new: bytes) -> bytearray:
    assert data.count(old) == 1
    at = data.index(old)
    data[at : at + len(old)] = new
    return data


class Client:
    """A partition that is fetched from its position, as the client does it."""

    def __init__(
        self, log: bytes | bytearray, *, position: int = 0, parser: Any = MemoryRecords
    ) -> None:
        self.log = log
        self.position = position
        self.salvage = Salvage()
        self._parser = parser

    def fetch(self) -> list[Any]:
        parsed = PartitionRecords(
            PARTITION, self._parser(bytes(self.log)), [], self.position, None, None, True, 0
        )
        parsed._records_iterator = self.salvage.records(PARTITION, parsed)
        found = list(parsed)
        self.position = parsed.next_fetch_offset
        return found


def told(records: list[Any]) -> list[int | str]:
    """Offsets, and the unreadable ones with their texts."""
    return [f"{r.offset}: {r.error}" if isinstance(r, Unreadable) else r.offset for r in records]


@pytest.mark.parametrize("most", [None, 1, 5, 6, 7])
def test_as_many_records_are_taken_as_the_client_would_take(most: int | None) -> None:
    def taken(take: Callable[..., list[Any]]) -> list[Any]:
        position = SimpleNamespace(position=8, paused=False)
        position.consumed_to = lambda offset: setattr(position, "position", offset)
        assignment = SimpleNamespace(active=True, state_value=lambda _: position)
        data = MemoryRecords(bytes(batch(7) + batch(10) + batch(13)))
        parsed = PartitionRecords(PARTITION, data, [], 8, None, None, True, 0)
        parsed._records_iterator = records = Salvage().records(PARTITION, parsed)
        fetched = FetchResult(
            PARTITION, assignment=assignment, partition_records=parsed, backoff=0.0
        )
        trace: list[Any] = []
        while fetched.has_more() and len(trace) < 12:
            found = take(fetched, records, most)
            trace.append(([r.offset for r in found], position.position, fetched.has_more()))
        return trace

    def by_client(fetched: FetchResult, _: object, most: int | None) -> list[Any]:
        found: list[Any] = fetched.getall(most)
        return found

    assert taken(take_records) == taken(by_client)


def test_nothing_is_taken_of_a_paused_partition() -> None:
    position = SimpleNamespace(position=8, paused=True)
    assignment = SimpleNamespace(active=True, state_value=lambda _: position)
    parsed = PartitionRecords(PARTITION, MemoryRecords(bytes(batch(7))), [], 8, None, None, True, 0)
    fetched = FetchResult(PARTITION, assignment=assignment, partition_records=parsed, backoff=0.0)

    assert take_records(fetched, Salvage().records(PARTITION, parsed)) == []


@pytest.mark.parametrize("parser", [MemoryRecords, _MemoryRecordsPy])
@pytest.mark.parametrize("codec", [0, 1])
def test_a_header_name_that_is_not_utf8_fails_its_record_alone(parser: Any, codec: int) -> None:
    bad = batch(10)
    if codec:
        packed = gzip.compress(bytes(replaced(bad, b"name1", b"nam\xe91")[HEADER.size :]))
        bad = bad[: HEADER.size] + packed
        struct.pack_into(">i", bad, 8, len(bad) - 12)
        struct.pack_into(">h", bad, ATTRIBUTES_AT, 1)
    else:
        replaced(bad, b"name1", b"nam\xe91")
    client = Client(batch(7) + signed(bad) + batch(13), position=8, parser=parser)

    records = client.fetch()

    assert told(records) == [
        8,
        9,
        10,
        "11: orders[3]@11 cannot be read: the header name b'nam\\xe91' is not UTF-8",
        12,
        13,
        14,
        15,
    ]
    assert client.position == 16
    bad_one = records[3]
    assert isinstance(bad_one.error, DecodeError)
    assert (bad_one.key, bad_one.value) == (b"key", b"v1"), "for a dead letter"
    assert bad_one.headers == [("nam\\xe91", b"x")]
    good = records[2], records[4]
    assert [(r.value, r.timestamp, list(r.headers)) for r in good] == [
        (b"v0", 1700, [("name0", b"x")]),
        (b"v2", 1702, [("name2", b"x")]),
    ]
    assert client.salvage.found == {PARTITION}


def test_several_in_one_batch_fail_each_for_itself() -> None:
    bad = replaced(replaced(batch(0), b"name0", b"\xff\xff\xff\xff\xff"), b"name2", b"nam\xff2")

    records = Client(signed(bad)).fetch()

    assert [isinstance(r, Unreadable) for r in records] == [True, False, True]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_was_handed_out_before_is_not_handed_out_again(position: int) -> None:
    client = Client(signed(replaced(batch(0), b"name2", b"nam\xff2")), position=position)

    assert [r.offset for r in client.fetch()] == list(range(position, 3))


def wrong_field(data: bytearray) -> None:
    """The length of a value says more than there is."""
    at = data.index(b"\x04v1")
    data[at] = 0x7E


def wrong_header_count(data: bytearray) -> None:
    at = data.index(b"v1") + 2
    data[at] = 0x01  # -1


def wrong_length(data: bytearray) -> None:
    """The first record says that it is longer than the batch."""
    data[HEADER.size] = 0x7E


def endless_number(data: bytearray) -> None:
    data[HEADER.size : HEADER.size + 12] = b"\xff" * 12


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (wrong_field, [0, "1: its fields are wrong", 2, 3]),
        (wrong_header_count, [0, "1: it has 8 bytes too many", 2, 3]),
        (wrong_length, ["0: with all up to offset 2", 3]),
        (endless_number, ["0: with all up to offset 2", 3]),
    ],
)
def test_a_record_that_is_not_made_as_it_should_be_fails(
    damage: Damage, expected: list[Any]
) -> None:
    bad = batch(0)
    damage(bad)
    client = Client(signed(bad) + batch(3, 1))

    records = client.fetch()

    for record, want in zip(records, expected, strict=True):
        if isinstance(want, int):
            assert record.offset == want
        else:
            offset, text = want.split(": ")
            assert record.offset == int(offset)
            assert text in str(record.error)
    assert client.position == 4


def test_a_batch_that_cannot_be_decompressed_fails_as_a_whole() -> None:
    bad = batch(3, codec=1)
    bad[HEADER.size + 15] ^= 0xFF
    client = Client(batch(0) + signed(bad) + batch(6, 1))

    records = client.fetch()

    assert [r.offset for r in records] == [0, 1, 2, 3, 6]
    assert "with all up to offset 5: its batch cannot be decompressed" in str(records[3].error)


@pytest.mark.parametrize("codec", [5, 7])
def test_a_codec_that_nobody_knows_fails_as_a_whole(codec: int) -> None:
    bad = batch(0)
    struct.pack_into(">h", bad, ATTRIBUTES_AT, codec)

    records = Client(signed(bad) + batch(3, 1)).fetch()

    assert [r.offset for r in records] == [0, 3]
    assert isinstance(records[0].error, DecodeError)
    assert f"codec {codec}, which is unknown" in str(records[0].error)


@pytest.mark.parametrize(("codec", "name"), [(2, "snappy"), (3, "lz4"), (4, "zstd")])
def test_c28_a_library_that_is_not_installed_stops_with_topic_and_remedy(
    codec: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever on_error says: it is not the records' fault."""
    monkeypatch.setattr(aiokafka.codec, f"has_{name}", lambda: False)
    bad = batch(0)
    struct.pack_into(">h", bad, ATTRIBUTES_AT, codec)

    (record,) = Client(signed(bad)).fetch()

    assert isinstance(record.error, Stop)
    assert "topic orders" in str(record.error)
    assert f"pip install kafkaesk-core[{name}]" in str(record.error)


def test_a_wrong_checksum_is_fetched_again_and_fails_when_it_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = batch(3)
    bad[-1] ^= 0xFF
    client = Client(batch(0) + bad + batch(6, 1))

    assert told(client.fetch()) == [0, 1, 2], "what is before it"
    assert client.fetch() == []
    (record,) = client.fetch()

    assert "orders[3]@3 cannot be read, with all up to offset 5" in str(record.error)
    assert "Invalid CRC" in str(record.error)
    assert caplog.text.count("orders[3]@3: the fetched batch is damaged") == 2
    assert client.position == 6


def test_a_batch_that_came_damaged_once_is_read_when_it_comes_again() -> None:
    good = batch(0)
    bad = bytearray(good)
    bad[-1] ^= 0xFF
    client = Client(bad)

    assert client.fetch() == []
    client.log = good
    assert told(client.fetch()) == [0, 1, 2]


@pytest.mark.parametrize("length", [-1, 3, 20])
def test_a_batch_whose_length_is_wrong_is_never_passed_over_in_silence(length: int) -> None:
    bad = batch(3)
    struct.pack_into(">i", bad, 8, length)
    client = Client(batch(0) + bad)

    assert told(client.fetch()) == [0, 1, 2]
    assert client.fetch() == []
    (record,) = client.fetch()

    assert "orders[3]@3 cannot be read: its batch is damaged" in str(record.error)
    assert client.position == 4, "nothing tells how far it goes"


def test_a_damaged_record_of_an_older_format_fails() -> None:
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 16)
    builder.append(0, 1700, b"key", b"value")
    bad = bytearray(builder.build())
    bad[-1] ^= 0xFF
    client = Client(bad)

    client.fetch()
    client.fetch()
    (record,) = client.fetch()

    assert record.offset == 0
    assert client.position == 1


def test_a_batch_of_aborted_records_is_passed_over_unread() -> None:
    bad = signed(replaced(batch(0), b"name1", b"nam\xff1"))
    attributes = 0x10
    struct.pack_into(">h", bad, ATTRIBUTES_AT, attributes)
    struct.pack_into(">q", bad, 43, 77)  # its producer
    parsed = PartitionRecords(
        PARTITION, MemoryRecords(bytes(signed(bad))), [(77, 0)], 0, None, None, True, 1
    )
    parsed._records_iterator = Salvage().records(PARTITION, parsed)

    assert list(parsed) == []
    assert parsed.next_fetch_offset == 3


def test_varints_are_those_of_the_client() -> None:
    """The damage above counts on it."""
    out = bytearray()
    encode_varint(2, out.append)
    assert out == b"\x04"

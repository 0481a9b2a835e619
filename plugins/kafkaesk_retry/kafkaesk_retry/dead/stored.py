"""Stored dead letters: reads them from their streams, and selects among them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from kafkaesk_core import Cluster, ConsumerRecord, RecordReader, TopicError, TopicPartition
from kafkaesk_retry.letter import (
    DELIVERY_ATTEMPT,
    ERRORS,
    MOST_COUNT,
    MOST_TIME,
    OWN,
    REPLAY_COUNT,
    SPRING,
    TRUNCATED,
    Style,
    without_own,
)
from kafkaesk_retry.places import Place, number

__all__ = ["LogReader", "Selection", "StoredLetter", "read_letter"]

FETCH_BYTES = 4 * 1024 * 1024
Ends = Mapping[TopicPartition, int]


class StoredLetter(NamedTuple):
    """One dead letter, with the content of its headers."""

    place: Place
    origin: Place
    group: str
    exception: str
    message: str
    fingerprint: str
    handler: str
    deliveries: int
    replays: int
    failed_at_ms: int
    is_truncated: bool
    style: Style
    record: ConsumerRecord

    @property
    def stacktrace(self) -> str:
        """The end of the traceback."""
        return _texts(self.record).get(f"{OWN}stacktrace", "")

    def headers(self) -> list[tuple[str, bytes | None]]:
        """The headers of the failed record."""
        return without_own(self.record.headers, self.style)


def read_letter(record: ConsumerRecord) -> StoredLetter | None:
    """Read the headers of a dead letter; return None if they do not name its origin."""
    headers = dict(record.headers)
    texts = _texts(record)
    style: Style = "kafka"
    try:
        if f"{ERRORS}topic" in texts:
            place = [texts[f"{ERRORS}{name}"] for name in ("topic", "partition", "offset")]
            group, message = texts.get(f"{ERRORS}group", ""), texts.get(f"{ERRORS}message", "")
            deliveries = texts.get(f"{ERRORS}delivery.count", "0")
        else:
            style = "spring"
            numbers = (headers[f"{SPRING}original-{name}"] for name in ("partition", "offset"))
            place = [texts[f"{SPRING}original-topic"], *map(_binary, numbers)]
            group = texts.get(f"{SPRING}original-consumer-group", "")
            message = texts.get(f"{SPRING}exception-message", "")
            deliveries = _binary(headers.get(DELIVERY_ATTEMPT))
        exception = texts.get(f"{OWN}exception") or texts.get(f"{SPRING}exception-fqcn", "?")
        return StoredLetter(
            place=Place(record.topic, record.partition, record.offset),
            origin=Place.parse("/".join(place)),
            group=group,
            exception=exception,
            message=message,
            fingerprint=texts.get(f"{OWN}fingerprint", exception),
            handler=texts.get(f"{OWN}handler", ""),
            deliveries=number(deliveries, MOST_COUNT),
            replays=number(texts.get(REPLAY_COUNT, "0"), MOST_COUNT),
            failed_at_ms=_failed_at(texts, record),
            is_truncated=TRUNCATED in texts,
            style=style,
            record=record,
        )
    except (KeyError, ValueError):
        return None


def _binary(value: bytes | None) -> str:
    return str(int.from_bytes(value or b"", "big"))


def _failed_at(texts: Mapping[str, str], record: ConsumerRecord) -> int:
    """Return when the record failed; else the letter's own time, else the earliest time."""
    for text in (texts.get(f"{OWN}failed-at", ""), str(record.timestamp)):
        try:
            return number(text, MOST_TIME)
        except ValueError:
            continue
    return 0


def _texts(record: ConsumerRecord) -> dict[str, str]:
    return {name: (value or b"").decode(errors="replace") for name, value in record.headers}


@dataclass(frozen=True, slots=True)
class Selection:
    """The conditions for dead letters; None is no condition. `stream` is the origin's stream."""

    prefix: str = ""
    group: str | None = None
    stream: str | None = None
    since_ms: int | None = None
    fingerprint: str | None = None
    where: tuple[str, str] | None = None
    places: frozenset[Place] = frozenset()

    def takes(self, letter: StoredLetter) -> bool:
        """Whether this letter is selected."""
        stream = letter.origin.topic.removeprefix(self.prefix)
        return (
            self.group in (None, letter.group)
            and self.stream in (None, stream)
            and self.fingerprint in (None, letter.fingerprint)
            and (self.since_ms is None or letter.failed_at_ms >= self.since_ms)
            and (not self.places or letter.place in self.places)
            and (self.where is None or _has(letter.record.value, *self.where))
        )


def _has(value: bytes | None, pointer: str, text: str) -> bool:
    """Whether a JSON value has this text at a JSON pointer (RFC 6901)."""
    try:
        found: Any = json.loads(value or b"")
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
    except (ValueError, KeyError, IndexError, TypeError):
        return False
    return text == (found if isinstance(found, str) else json.dumps(found))


class LogReader:
    """Reads topics from the beginning to the current ends; joins no group."""

    def __init__(self, cluster: Cluster, reader: RecordReader) -> None:
        self._cluster = cluster
        self._reader = reader

    @classmethod
    @asynccontextmanager
    async def connect(cls, cluster: Cluster) -> AsyncIterator[LogReader]:
        """Connect, and disconnect at the end.

        Raises:
            BrokerError: no broker can be used, or it refused.
        """
        async with cluster.reader(max_partition_fetch_bytes=FETCH_BYTES) as reader:
            yield cls(cluster, reader)

    async def ends(self, topics: Mapping[str, int]) -> Ends:
        """Return the present ends of topics with so many partitions.

        Raises:
            TopicError: a partition has no leader: what it holds must not be taken for missing.
        """
        ends = await self._cluster.ends(topics)
        wanted = {TopicPartition(topic, n) for topic, count in topics.items() for n in range(count)}
        for topic, missing in sorted(wanted - ends.keys()):
            text = f"partition {missing} of topic {topic} has no leader now, so it cannot be read"
            raise TopicError(f"{text}; try again when its brokers run", topic=topic)
        return ends

    async def records(
        self, ends: Ends, begins: Ends | None = None
    ) -> AsyncIterator[ConsumerRecord]:
        """Yield the records up to these ends, in order for each partition."""
        async with aclosing(self._reader.records(ends, begins)) as batches:
            async for records in batches:
                for record in records:
                    yield record

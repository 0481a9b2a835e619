"""Replays and drops dead letters; an interrupted run can be continued."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application
from kafkaesk_core.plugin import diagnose, translate_error
from kafkaesk_retry.letter import REPLAY_LETTER, Origin, own_headers
from kafkaesk_retry.places import Place

from .creation import creator
from .ledger import CONFIGS, Mark, begin_run, end_run, mark
from .session import Session
from .stored import StoredLetter

__all__ = ["Settler"]

CHUNK = 200
Target = Literal["group", "origin"]


class Settler:
    """Settles letters in chunks: the records are acknowledged before the marks are written.

    During a replay, a mark in each group's state topic stores the previous ends of the target
    topics. If the run is interrupted, the next run finds the sent letters behind these ends, and
    does not send them again.
    """

    def __init__(self, session: Session, producer: AIOKafkaProducer, topics: Application) -> None:
        self._session = session
        self._producer = producer
        self._topics = topics
        self._partitions: dict[str, int] = {}

    @classmethod
    @asynccontextmanager
    async def connect(cls, session: Session) -> AsyncIterator[Settler]:
        """Connect a producer, and disconnect it at the end.

        Raises:
            BrokerError: no broker can be used, or it refused.
            TopicError: a missing topic cannot or must not be created.
        """
        options = {
            **session.settings.client.for_producer(),
            "bootstrap_servers": list(session.cluster.servers),
            "enable_idempotence": True,
            "acks": "all",
        }
        producer = AIOKafkaProducer(**options)
        try:
            async with AsyncExitStack() as stack:
                topics = await stack.enter_async_context(creator(session.settings))
                stack.push_async_callback(producer.stop)
                await producer.start()
                yield cls(session, producer, topics)
        except KafkaConnectionError as error:
            raise await diagnose(session.cluster.servers, options) from error
        except KafkaError as error:
            raise translate_error(error, "settling", servers=session.cluster.servers) from error

    # --- what an interrupted run has sent

    async def recover(self) -> int:
        """Settle letters that an interrupted replay sent but did not mark; return their number."""
        found: dict[str, list[tuple[Place, Place]]] = {}
        session = self._session
        for state, begins in session.ledger.runs.items():
            counts = await session.cluster.partitions({one.topic for one in begins})
            async for record in session.reader.records(await session.reader.ends(counts), begins):
                place = _letter_of(record)
                if place is not None and not session.ledger.is_settled(place):
                    to = Place(record.topic, record.partition, record.offset)
                    found.setdefault(state, []).append((place, to))
        for state, pairs in found.items():
            await self._write_marks(state, [mark(place, "replayed", to) for place, to in pairs])
            session.ledger.note(place for place, _ in pairs)
        for state in list(session.ledger.runs):
            await self._write_marks(state, [end_run()])
            del session.ledger.runs[state]
        return sum(map(len, found.values()))

    # --- replay and drop

    async def replay(
        self,
        letters: AsyncIterator[StoredLetter],
        target: Target,
        groups: Iterable[str],
        origins: Iterable[str],
        *,
        rate: float | None,
        advance: Callable[[int], None],
    ) -> int:
        """Send letters to their group or to their origin, and mark them; return their number."""
        states = {group: await self._state(group) for group in groups}
        topics = set(origins)
        if target == "group":
            topics = {await self._waiting(group) for group in states}
        self._partitions = await self._session.cluster.partitions(topics)
        ends = await self._session.reader.ends(self._partitions)
        for state in states.values():
            await self._write_marks(state, [begin_run(ends)])
        count, began = 0, time.monotonic()
        size = CHUNK if rate is None else max(1, min(CHUNK, int(rate)))
        async for chunk in _chunks(letters, size):
            places = await asyncio.gather(*[self._send(letter, target) for letter in chunk])
            await self._settle(chunk, "replayed", places)
            count += len(chunk)
            advance(len(chunk))
            if rate is not None:
                await asyncio.sleep(max(0.0, count / rate - (time.monotonic() - began)))
        for state in states.values():
            await self._write_marks(state, [end_run()])
        return count

    async def drop(
        self, letters: AsyncIterator[StoredLetter], *, advance: Callable[[int], None]
    ) -> int:
        """Settle letters without a replay; return their number."""
        count = 0
        async for chunk in _chunks(letters, CHUNK):
            for group in {letter.group for letter in chunk}:
                await self._state(group)
            await self._settle(chunk, "dropped", [None] * len(chunk))
            count += len(chunk)
            advance(len(chunk))
        return count

    async def _send(self, letter: StoredLetter, target: Target) -> Place:
        topic, partition = letter.origin.topic, letter.origin.partition
        if target == "group":
            topic = self._waiting_topic(letter.group)
            partition = letter.place.partition
        count = self._partitions.get(topic)
        origin = Origin(letter.origin, replays=letter.replays + 1)
        sent = await self._producer.send(
            topic,
            letter.record.value,
            letter.record.key,
            partition=None if count is None else partition % count,
            timestamp_ms=letter.record.timestamp,
            headers=[
                *letter.headers(),
                *own_headers(origin),
                (REPLAY_LETTER, str(letter.place).encode()),
            ],
        )
        metadata = await sent
        return Place(metadata.topic, metadata.partition, metadata.offset)

    async def _settle(
        self, letters: list[StoredLetter], how: Mark, places: Iterable[Place | None]
    ) -> None:
        by_group: dict[str, list[tuple[bytes, bytes | None]]] = {}
        for letter, to in zip(letters, places, strict=True):
            by_group.setdefault(letter.group, []).append(mark(letter.place, how, to))
        for group, marks in by_group.items():
            await self._write_marks(self._session.ledger.topic(group), marks)
        self._session.ledger.note(letter.place for letter in letters)

    async def _write_marks(self, topic: str, marks: Iterable[tuple[bytes, bytes | None]]) -> None:
        sent = [await self._producer.send(topic, value, key) for key, value in marks]
        await asyncio.gather(*sent)

    # --- topics

    async def _state(self, group: str) -> str:
        topic = self._session.ledger.topic(group)
        await self._topics.ensure_topic(topic, partitions=1, configs=CONFIGS)
        return topic

    async def _waiting(self, group: str) -> str:
        topic = self._waiting_topic(group)
        await self._topics.ensure_topic(topic)
        return topic

    def _waiting_topic(self, group: str) -> str:
        return self._session.settings.topic_prefix + self._session.names.later(group)


def _letter_of(record: ConsumerRecord) -> Place | None:
    """Return the letter that this record replays; None for a foreign record."""
    sent = dict(record.headers).get(REPLAY_LETTER)
    try:
        return None if sent is None else Place.parse(sent.decode())
    except ValueError:
        return None


async def _chunks(
    letters: AsyncIterator[StoredLetter], size: int
) -> AsyncIterator[list[StoredLetter]]:
    chunk: list[StoredLetter] = []
    async for letter in letters:
        chunk.append(letter)
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

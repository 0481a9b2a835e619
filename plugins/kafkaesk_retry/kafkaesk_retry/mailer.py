"""Writes dead letters and postponed records, and notes the streams that refuse them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from kafkaesk_core import App, KafkaeskError, MessageTooLargeError, RecordMetadata

from .letter import Letter, Postponed, Style

__all__ = ["Mailer"]

logger = logging.getLogger("kafkaesk.retry")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
PATIENCE = 5.0
"""Seconds without an answer after which health reports it; a write may take much longer to fail."""
Parcel = Letter | Postponed


class Mailer:
    """Writes to the streams of one application; each write is acknowledged or fails.

    `prefix` is the prefix of the application's topics.
    """

    def __init__(
        self,
        app: App,
        prefix: str,
        style: Style,
        retention: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._prefix = prefix
        self._style = style
        self._clock = clock
        self._configs = {"retention.ms": str(retention * 1000)}
        self._failures: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._unmade: dict[str, str] = {}
        self._under_way: dict[object, tuple[str, float]] = {}

    def troubles(self) -> dict[str, str]:
        """Return, for each stream that refuses records, the reason."""
        now = self._clock()
        waits = {
            stream: f"no answer for {now - began:.0f} seconds"
            for stream, began in reversed(self._under_way.values())
            if now - began > PATIENCE
        }
        return {**waits, **self._unmade, **self._refused}

    async def send(self, stream: str, parcel: Parcel) -> RecordMetadata | None:
        """Write a record; return None after a failure, logged once per stream, see `troubles`.

        Raises:
            MessageTooLargeError: the record is too large for the stream, and is not a dead letter.
        """
        this = object()
        self._under_way[this] = stream, self._clock()
        try:
            metadata = await self._send_cut(stream, parcel)
        except Exception as error:
            if isinstance(error, MessageTooLargeError) and isinstance(parcel, Postponed):
                raise
            self._note(stream, parcel, error)
            return None
        finally:
            del self._under_way[this]
        self._failures.pop(stream, None)
        self._unmade.pop(stream, None)
        if self._refused.pop(stream, None) is not None:
            logger.info("records of group %s are written to %s again", parcel.group, stream)
        return metadata

    def pause(self, stream: str) -> float:
        """Return the seconds until the next attempt to write to a stream that refused a record."""
        failures = self._failures[stream]
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(max(failures - 1, 0), 10))

    def keep(self, streams: set[str]) -> None:
        """Forget the refusals of all other streams, because nothing waits for them."""
        for stream in self._refused.keys() - streams:
            del self._refused[stream]
            self._failures.pop(stream, None)

    def _note(self, stream: str, parcel: Parcel, error: Exception) -> None:
        self._failures[stream] += 1
        if stream not in self._refused:
            logger.error(
                "%s, which failed in group %s, cannot be written to %s: %s: %s; it is not "
                "committed, and is written again until that succeeds",
                *(parcel.origin.place, parcel.group, stream, type(error).__name__, error),
            )
        self._refused[stream] = f"{type(error).__name__}: {error}"

    async def _send_cut(self, stream: str, parcel: Parcel) -> RecordMetadata:
        """Write a letter; if it is too large, cut its value further and further."""
        size = len(parcel.value or b"")
        while True:
            try:
                return await self._send(stream, parcel)
            except MessageTooLargeError:
                if isinstance(parcel, Postponed):
                    raise
                if size:
                    size = size // 2 if size > 1024 else 0
                    parcel = parcel.cut(size)
                elif parcel.failure.stacktrace:
                    parcel = replace(parcel, failure=replace(parcel.failure, stacktrace=""))
                else:
                    raise

    async def _send(self, stream: str, parcel: Parcel) -> RecordMetadata:
        topic, partition = self._prefix + stream, None
        if isinstance(parcel, Letter):
            place = parcel.origin.place
            count = await self.make_topic(topic, place.topic)
            partition = None if count is None else place.partition % count
        delivery = await self._app.forward(
            topic,
            parcel.value,
            parcel.key,
            parcel.all_headers(self._style),
            partition=partition,
            timestamp_ms=parcel.timestamp_ms,
        )
        return await delivery

    async def make_topic(self, topic: str, origin: str | None) -> int | None:
        """Create a topic with as many partitions as its origin; return its number of partitions.

        Raises:
            BrokerError: the topic cannot or must not be created.
        """
        count = None if origin is None else await self._app.ensure_topic(origin)
        return await self._app.ensure_topic(topic, partitions=count, configs=self._configs)

    async def prepare(self, topic: str, origin: str | None = None) -> bool:
        """Create a topic at the start; return whether it exists; log a failure once.

        A failure does not stop the application.
        """
        stream = topic.removeprefix(self._prefix)
        try:
            await self.make_topic(topic, origin)
        except KafkaeskError as error:
            if stream not in self._unmade:
                logger.warning("%s", error)
            self._unmade[stream] = str(error)
            return False
        self._unmade.pop(stream, None)
        return True

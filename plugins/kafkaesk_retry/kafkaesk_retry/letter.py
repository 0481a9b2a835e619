"""A dead letter: the record, byte for byte, with headers that say why it failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from .places import Place, number, place_of

if TYPE_CHECKING:
    from kafkaesk_core import Header, IncomingMessage

    from .failure import Failure

__all__ = [
    "OWN_HEADERS",
    "SPRING_HEADERS",
    "Letter",
    "Origin",
    "Postponed",
    "Style",
    "origin_of",
    "own_headers",
    "without_own",
]

ERRORS = "__dlq.errors."
"""The prefix of Apache Kafka's own dead letters, whose names and values these headers use."""
OWN = "kafkaesk-dlq-"
SPRING = "kafka_dlt-"
REPLAY_OF, REPLAY_COUNT = "kafkaesk-replay-of", "kafkaesk-replay-count"
REPLAY_LETTER = "kafkaesk-replay-letter"
RETRY_OF, RETRY_DUE = "kafkaesk-retry-of", "kafkaesk-retry-due"
RETRY_ROUNDS, RETRY_DELIVERIES = "kafkaesk-retry-rounds", "kafkaesk-retry-deliveries"
DELIVERY_ATTEMPT = "kafka_deliveryAttempt"
TRUNCATED = f"{OWN}truncated"
TIMESTAMP_TYPES = (b"CreateTime", b"LogAppendTime")
MOST_COUNT = 10**9
MOST_TIME = 253_402_300_799_000
"""The last second of the year 9999, the latest time in Python."""
NO_TIMESTAMP = (-1, b"NoTimestampType")
"""The timestamp of Kafka's Java client for a record without a timestamp."""

OWN_HEADERS = frozenset(
    {
        *(f"{ERRORS}{n}" for n in ("topic", "partition", "offset", "group", "message")),
        f"{ERRORS}delivery.count",
        *(f"{OWN}{n}" for n in ("exception", "stacktrace", "fingerprint", "failed-at", "handler")),
        *(TRUNCATED, f"{OWN}value-size"),
        *(
            REPLAY_OF,
            REPLAY_COUNT,
            REPLAY_LETTER,
            RETRY_OF,
            RETRY_DUE,
            RETRY_ROUNDS,
            RETRY_DELIVERIES,
        ),
    }
)
SPRING_HEADERS = frozenset(
    {
        *(f"{SPRING}original-{n}" for n in ("topic", "partition", "offset", "timestamp")),
        *(f"{SPRING}original-{n}" for n in ("timestamp-type", "consumer-group")),
        *(f"{SPRING}exception-{n}" for n in ("fqcn", "cause-fqcn", "message", "stacktrace")),
        DELIVERY_ATTEMPT,
    }
)
Style = Literal["kafka", "spring"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The place where a record was first read, and its history since."""

    place: Place
    rounds: int = 0
    deliveries: int = 0
    replays: int = 0
    due_ms: int = 0


def origin_of(message: IncomingMessage) -> Origin:
    """Return a message's origin; a record that the plugin did not send is its own origin."""
    own = {
        name: (value or b"").decode(errors="replace")
        for name, value in message.headers
        if name.startswith(("kafkaesk-retry-", "kafkaesk-replay-"))
    }
    if not own:
        return Origin(place_of(message))
    try:
        place = Place.parse(own.get(RETRY_OF) or own[REPLAY_OF])
        return Origin(
            place,
            rounds=number(own.get(RETRY_ROUNDS, "0"), MOST_COUNT),
            deliveries=number(own.get(RETRY_DELIVERIES, "0"), MOST_COUNT),
            replays=number(own.get(REPLAY_COUNT, "0"), MOST_COUNT),
            due_ms=number(own.get(RETRY_DUE, "0"), MOST_TIME),
        )
    except (KeyError, ValueError):
        return Origin(place_of(message))  # somebody else's headers


def own_headers(origin: Origin) -> list[Header]:
    """Return the headers that carry the origin of a record to handle again."""
    place = str(origin.place).encode()
    headers: list[Header] = []
    if origin.replays:
        headers += [(REPLAY_OF, place), (REPLAY_COUNT, str(origin.replays).encode())]
    if origin.rounds:
        headers += [
            (RETRY_OF, place),
            (RETRY_ROUNDS, str(origin.rounds).encode()),
            (RETRY_DELIVERIES, str(origin.deliveries).encode()),
            (RETRY_DUE, str(origin.due_ms).encode()),
        ]
    return headers


def without_own(headers: Iterable[Header], style: Style) -> list[Header]:
    """Return the headers in order, without those that the plugin writes."""
    own = OWN_HEADERS | SPRING_HEADERS if style == "spring" else OWN_HEADERS
    return [header for header in headers if header[0] not in own]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, ready to be written, repeatedly if necessary."""

    origin: Origin
    group: str
    handler: str
    failure: Failure
    deliveries: int
    failed_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp_ms: int | None
    timestamp_type: int | None = None
    value_size: int | None = None

    def cut(self, size: int) -> Letter:
        """Return a copy with only this many bytes of the value, for a topic with a size limit."""
        value = self.value or b""
        return replace(self, value=value[:size], value_size=self.value_size or len(value))

    def all_headers(self, style: Style) -> list[Header]:
        """Return the record's headers, followed by the plugin's own."""
        named = self._kafka() if style == "kafka" else self._spring()
        own = {
            "exception": self.failure.exception,
            "stacktrace": self.failure.stacktrace,
            "fingerprint": self.failure.fingerprint,
            "failed-at": str(self.failed_at_ms),
            "handler": self.handler,
        }
        extra: list[Header] = []
        if self.value_size is not None:
            extra = [(TRUNCATED, b"true"), (f"{OWN}value-size", str(self.value_size).encode())]
        if self.origin.replays:
            extra += own_headers(Origin(self.origin.place, replays=self.origin.replays))
        return [
            *self.headers,
            *named,
            *((f"{OWN}{name}", _bytes(text)) for name, text in own.items()),
            *extra,
        ]

    def _kafka(self) -> list[Header]:
        place = self.origin.place
        values = {
            "topic": place.topic,
            "partition": str(place.partition),
            "offset": str(place.offset),
            "group": self.group,
            "delivery.count": str(self.deliveries),
            "message": self.failure.message,
        }
        return [(f"{ERRORS}{name}", _bytes(text)) for name, text in values.items()]

    def _spring(self) -> list[Header]:
        """Return headers with Spring's names and types: big-endian numbers of 4 and 8 bytes."""
        place, failure = self.origin.place, self.failure
        timestamp, kind = NO_TIMESTAMP
        if self.timestamp_ms is not None:
            timestamp, kind = self.timestamp_ms, TIMESTAMP_TYPES[self.timestamp_type or 0]
        headers: list[Header] = [
            (f"{SPRING}original-topic", _bytes(place.topic)),
            (f"{SPRING}original-partition", place.partition.to_bytes(4, "big")),
            (f"{SPRING}original-offset", place.offset.to_bytes(8, "big")),
            (f"{SPRING}original-timestamp", timestamp.to_bytes(8, "big", signed=True)),
            (f"{SPRING}original-timestamp-type", kind),
            (f"{SPRING}original-consumer-group", _bytes(self.group)),
            (f"{SPRING}exception-fqcn", _bytes(failure.exception)),
            (f"{SPRING}exception-message", _bytes(failure.message)),
            (f"{SPRING}exception-stacktrace", _bytes(failure.stacktrace)),
            (DELIVERY_ATTEMPT, self.deliveries.to_bytes(4, "big")),
        ]
        if failure.cause is not None:
            headers.append((f"{SPRING}exception-cause-fqcn", _bytes(failure.cause)))
        return headers


@dataclass(frozen=True, slots=True)
class Postponed:
    """A record that the same group handles again at a later time."""

    origin: Origin
    group: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp_ms: int | None

    def all_headers(self, style: Style) -> list[Header]:
        """Return the record's headers, followed by those that carry its origin."""
        return [*self.headers, *own_headers(self.origin)]


def _bytes(text: str) -> bytes:
    return text.encode(errors="backslashreplace")

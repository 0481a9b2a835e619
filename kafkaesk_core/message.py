"""Outgoing and incoming messages: their fields, their records, and checks of arguments."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator, core_schema

from .errors import DecodeError, InvalidMessageError

if TYPE_CHECKING:
    from .structs import ConsumerRecord, TopicPartition

__all__ = [
    "RAW_TYPES",
    "Data",
    "Header",
    "Headers",
    "IncomingMessage",
    "OutgoingMessage",
    "ParsedRecord",
    "PartlyUnreadable",
    "RebalanceEvent",
    "Unreadable",
    "check_address",
    "check_many",
    "check_options",
    "copy_headers",
    "raw_data_error",
]

Header = tuple[str, bytes | None]
Headers = list[Header]
Data = BaseModel | Mapping[str, Any] | Sequence[Any] | bytes | str | int | float | bool | None
"""Data to publish: a model, JSON-able data, or (raw) bytes."""

RAW_TYPES = (bytes, bytearray, memoryview)
"""Data for `raw_publish`, not for `publish`."""


_ENVELOPE = core_schema.typed_dict_schema(
    {"schema": core_schema.typed_dict_field(core_schema.str_schema())}
)
_read_schema = SchemaValidator(_ENVELOPE).validate_json


class OutgoingMessage:
    """One message to publish; layers of `wrap_publish` may change every field but `origins`.

    `data` is a model, JSON-able data, or the raw bytes of `raw_publish`; it is encoded after the
    last layer. `headers` is this message's own list. `timestamp_ms` None means now. `origins` are
    the consumed messages whose `subscriber` published this one: one message, those of a batch, or
    none. If `is_internal`, observers are not called for the message.
    """

    __slots__ = (
        "_encoded",
        "_meta",
        "data",
        "headers",
        "is_internal",
        "key",
        "origins",
        "partition",
        "schema",
        "stream",
        "timestamp_ms",
        "topic",
    )

    def __init__(
        self,
        stream: str,
        topic: str,
        data: Data,
        key: bytes | None = None,
        schema: str | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        origins: Sequence[IncomingMessage] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.stream = stream
        self.topic = topic
        self.data = data
        self.key = key
        self.schema = schema
        self.headers: Headers = [] if headers is None else headers
        self.partition = partition
        self.timestamp_ms = timestamp_ms
        self.origins = origins
        self.is_internal = False
        self._meta: dict[str, Any] | None = None if meta is None else dict(meta)

    @property
    def meta(self) -> dict[str, Any]:
        """Data of plugins, and the caller's data for plugins; created on first access."""
        if self._meta is None:
            self._meta = {}
        return self._meta

    @property
    def encoded(self) -> bytes | None:
        """The encoded value of the record; layers of the stage "deliver" may replace it."""
        return getattr(self, "_encoded", None)

    @encoded.setter
    def encoded(self, value: bytes | None) -> None:
        self._encoded = value

    @property
    def is_encoded(self) -> bool:
        """Whether the data was encoded, so that `encoded` will be written."""
        return hasattr(self, "_encoded")

    @property
    def origin(self) -> IncomingMessage | None:
        """The consumed message that caused this one; None unless there is exactly one."""
        return self.origins[0] if len(self.origins) == 1 else None

    def __repr__(self) -> str:
        return f"<OutgoingMessage {self.topic} schema={self.schema}>"


class IncomingMessage:
    """One consumed record on its way to a handler; not yet decoded.

    `value` is the raw bytes (None: a tombstone); a layer of `wrap_consume` may replace it, for
    example to decrypt it. `attempt` starts at 1 and counts retries, across restarts too. `epoch` is
    the period of partition ownership in which the message was delivered. `is_closed` says that the
    handler committed the message before it returned. `known_schema` is the schema that decoding
    found, or None. In a batch, `turn` says whether the handler got the message or it waits for the
    next batch.
    """

    __slots__ = (
        "_meta",
        "_record",
        "attempt",
        "epoch",
        "is_closed",
        "known_schema",
        "stream",
        "turn",
        "value",
    )

    def __init_subclass__(cls) -> None:
        """Name the engine's own messages after this class, in errors of Python too.

        Whoever receives or passes a message knows this class only.
        """
        if cls.__module__.startswith("kafkaesk_core."):
            cls.__name__ = cls.__qualname__ = IncomingMessage.__qualname__
            cls.__module__ = IncomingMessage.__module__

    def __init__(
        self, record: ConsumerRecord, stream: str, attempt: int = 1, epoch: int = 0
    ) -> None:
        self._record: ParsedRecord = record
        self.stream = stream
        self.value: bytes | None = record.value
        self.attempt = attempt
        self.epoch = epoch
        self.is_closed = False
        self.turn: Literal["waits", "handed", "put off"] = "waits"
        self._meta: dict[str, Any] | None = None
        self.known_schema: str | None = None

    @property
    def crashes(self) -> int:
        """How many attempts ended in a crash of the process; counted if `count_crashes` is on."""
        return 0

    @property
    def record(self) -> ConsumerRecord:
        """The record in aiokafka's form, with the value that was read."""
        return self._record  # type: ignore[return-value]  # FetchedMessage overrides it

    @property
    def topic(self) -> str:
        """The topic's name, with the prefix."""
        return self.record.topic

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self.record.partition

    @property
    def offset(self) -> int:
        """The record's offset in its partition."""
        return self._record.offset

    @property
    def key(self) -> bytes | None:
        """The record's key."""
        return self._record.key

    @property
    def headers(self) -> tuple[Header, ...]:
        """The record's headers, in their order; a name may occur more than once."""
        return tuple(self._record.headers)

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970, of creation or append by the topic's setting; -1 for none."""
        timestamp = self._record.timestamp
        return -1 if timestamp is None else timestamp

    @property
    def meta(self) -> dict[str, Any]:
        """Data of plugins; created on first access."""
        if self._meta is None:
            self._meta = {}
        return self._meta

    @property
    def schema(self) -> str:
        """The schema named in the envelope, as "Content:1".

        Raises:
            DecodeError: the value is not a JSON envelope.
        """
        if self.known_schema is None:
            self.known_schema = self._parse_schema()
        return self.known_schema

    def _parse_schema(self) -> str:
        where = f"{self.topic}[{self.partition}]@{self.offset}"
        if self.value is None:
            raise DecodeError(f"{where} has no value, so no envelope names its schema")
        try:
            schema: str = _read_schema(self.value)["schema"]
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise DecodeError(
                f'{where} is not an envelope {{"schema": ..., "data": ...}}: {problem}; '
                "annotate the handler's first parameter with bytes to take other formats"
            ) from error
        return schema

    def __repr__(self) -> str:
        return f"<IncomingMessage {self.topic}[{self.partition}]@{self.offset}>"


@dataclass(frozen=True, slots=True)
class RebalanceEvent:
    """Partitions were assigned, revoked or lost; "lost" leaves no chance to commit."""

    kind: Literal["assigned", "revoked", "lost"]
    partitions: frozenset[TopicPartition]
    group: str


# --- records
#
# The client's parser has its own records. aiokafka's ConsumerRecord, a frozen dataclass with eleven
# fields, is created only on access, because that takes as long as parsing the record.


class ParsedRecord(Protocol):
    """The fields shared by ConsumerRecord and the parser's records of all formats."""

    @property
    def offset(self) -> int:
        """The offset in the partition."""

    @property
    def timestamp(self) -> int | None:
        """Milliseconds since 1970; None in the oldest format."""

    @property
    def timestamp_type(self) -> int | None:
        """0 if the timestamp is the time of creation, 1 if it is that of the append."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def value(self) -> bytes | None:
        """The value."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The headers, in their order."""

    @property
    def checksum(self) -> int | None:
        """The record's checksum, in the two older formats only."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a record, or a whole batch, that cannot be read.

    Its handling fails with `error`; the other fields hold the parts that could be read.
    """

    topic: str
    partition: int
    offset: int
    error: BaseException
    timestamp: int | None = None
    timestamp_type: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    checksum: int | None = None


class PartlyUnreadable(list[ParsedRecord]):
    """A list that includes unreadable records; other lists need not be searched for them."""


# --- arguments of publishing

_INT32, _INT64 = 2**31 - 1, 2**63 - 1


def check_address(stream: object, key: object, partition: object, timestamp_ms: object) -> None:
    """Check a message's stream, key, partition and timestamp.

    Raises:
        TypeError: an argument has the wrong type; the error names it.
        ValueError: the stream has no name, or a number is negative.
    """
    if type(stream) is str and stream and key is partition is timestamp_ms is None:
        return  # as for most messages
    if not isinstance(stream, str):
        raise TypeError(f"the stream is {stream!r} of type {type(stream).__name__}, not str")
    if not stream:
        raise ValueError("the stream's name is empty; give one")
    if key is not None and not isinstance(key, bytes):
        raise TypeError(f"the key is of type {type(key).__name__}, not bytes; encode it first")
    _check_number("partition", partition, _INT32)
    _check_number("timestamp_ms", timestamp_ms, _INT64)


def check_options(schema: object, origins: object, meta: object) -> None:
    """Check the other arguments of a message.

    Raises:
        TypeError: an argument has the wrong type; the error names it.
    """
    if schema is not None and not isinstance(schema, str):
        raise TypeError(f'schema is of type {type(schema).__name__}, not str; give "Content:1"')
    if not isinstance(origins, (tuple, list)):
        raise TypeError(f"origins is of type {type(origins).__name__}, not a list of messages")
    if meta is not None and not isinstance(meta, Mapping):
        raise TypeError(f"meta is of type {type(meta).__name__}, not a dict")


def check_many(stream: str, data: object, key: object, schema: str | None) -> None:
    """Check that `data` is an iterable of messages, and that `key` is a function.

    Raises:
        InvalidMessageError: `data` is one message.
        TypeError: an argument has the wrong type; the error names it.
    """
    if isinstance(data, (BaseModel, Mapping, str, *RAW_TYPES)):  # iterable, and one message
        raise InvalidMessageError(
            f"publish_many to {stream} got one {type(data).__name__}; give it an iterable "
            "of messages, or use publish()",
            schema=schema,
            topic=stream,
        )
    if not isinstance(data, (Iterable, AsyncIterable)):
        raise TypeError(
            f"data is of type {type(data).__name__}, not an iterable of messages; "
            "use publish() for one"
        )
    if key is not None and not callable(key):
        raise TypeError(
            f"key is of type {type(key).__name__}, not a function that makes each message's key"
        )


def raw_data_error(stream: str, data: Data, schema: str | None) -> InvalidMessageError:
    """Return the error for bytes or None where a model or JSON-able data is expected."""
    return InvalidMessageError(
        f"publish to {stream} got {type(data).__name__}; publish a model or JSON-able data, "
        "or use raw_publish() for bytes and tombstones",
        schema=schema,
        topic=stream,
    )


def _check_number(name: str, number: object, largest: int) -> None:
    if number is None:
        return
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} is {number!r} of type {type(number).__name__}, not int")
    if number < 0:
        raise ValueError(f"{name} is {number}; give 0 or more, or None")
    if number > largest:
        raise ValueError(f"{name} is {number}; Kafka's largest is {largest}")


def copy_headers(headers: Iterable[Header] | None) -> Headers:
    """Copy headers into a new list.

    Raises:
        TypeError: an entry is not a pair of str and bytes (or None).
        ValueError: a name cannot be written in UTF-8.
    """
    if headers is None:
        return []
    if isinstance(headers, Mapping):
        raise TypeError(
            "headers are pairs (name: str, value: bytes), of which a name may have several; "
            "pass list(headers.items())"
        )
    if not isinstance(headers, Iterable):
        raise TypeError(
            f"headers are of type {type(headers).__name__}, not a list of pairs "
            "(name: str, value: bytes)"
        )
    return [_check_header(header) for header in headers]


def _check_header(header: object) -> Header:
    if not (isinstance(header, (tuple, list)) and len(header) == 2):
        raise TypeError(f"header {header!r} is not a pair (name: str, value: bytes)")
    name, value = header
    if not isinstance(name, str):
        raise TypeError(f"header name {name!r} is {type(name).__name__}, not str")
    if not name.isascii() and not _is_unicode(name):
        raise ValueError(f"header name {name!r} has surrogates, which UTF-8 does not have")
    if value is not None and not isinstance(value, bytes):
        raise TypeError(
            f"header {name!r} has a value of type {type(value).__name__}, not bytes; "
            "encode it first"
        )
    return name, value


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)

"""Messages on their way out and in, and the narrow view of the application that hooks receive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator, core_schema

from .delivery import Delivery
from .errors import DecodeError
from .records import ParsedRecord
from .status import Status
from .structs import ConsumerRecord, TopicPartition

__all__ = [
    "App",
    "Data",
    "Header",
    "Headers",
    "IncomingMessage",
    "OutgoingMessage",
    "RebalanceEvent",
]

Header = tuple[str, bytes | None]
Headers = list[Header]
Data = BaseModel | Mapping[str, Any] | Sequence[Any] | bytes | str | int | float | bool | None
"""What may be published: a model, JSON-able data, or (raw) bytes."""


_ENVELOPE = core_schema.typed_dict_schema(
    {"schema": core_schema.typed_dict_field(core_schema.str_schema())}
)
_read_schema = SchemaValidator(_ENVELOPE).validate_json


class OutgoingMessage:
    """One message to publish; layers of `wrap_publish` may change every field but `origins`.

    `data` is a model, JSON-able data, or the raw bytes of `raw_publish`; it is encoded only after
    the last layer. `headers` is this message's own list. `timestamp_ms` None means now.
    `origins` are the consumed messages whose `subscriber` published this one: one, those of a
    batch, or none. `is_internal` says that no observer is told of it.
    """

    __slots__ = (
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
        """A place for plugins, and for what the caller tells them; made when first used."""
        if self._meta is None:
            self._meta = {}
        return self._meta

    @property
    def origin(self) -> IncomingMessage | None:
        """The consumed message on whose behalf this one is published, if it is exactly one."""
        return self.origins[0] if len(self.origins) == 1 else None

    def __repr__(self) -> str:
        return f"<OutgoingMessage {self.topic} schema={self.schema}>"


class IncomingMessage:
    """One consumed record on its way to a handler; not yet decoded.

    `value` is the raw bytes (None: a tombstone) and may be replaced by a layer of `wrap_consume`,
    say to decrypt it; everything else of the record is read through it. `attempt` starts at 1
    and counts the tries of this process. `epoch` is the time of owning its partition in which it
    was delivered; `is_closed` says that the handler committed it before it returned;
    `known_schema` is what decoding found, or None. `turn` says, in a batch, whether the message
    has been handed to the handler, or put off to the next batch.
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
    def record(self) -> ConsumerRecord:
        """The record as aiokafka hands it out; its value is what came, whatever `value` is."""
        return self._record  # type: ignore[return-value]  # a job, which holds another, overrides it

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
        """Milliseconds since 1970, of creation or of append, as the topic is configured."""
        return self.record.timestamp

    @property
    def meta(self) -> dict[str, Any]:
        """A place for plugins, made when first used."""
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
    """Partitions came or went; `kind` "lost" means taken away without a chance to commit."""

    kind: Literal["assigned", "revoked", "lost"]
    partitions: frozenset[TopicPartition]
    group: str


class App(Protocol):
    """What hooks may ask of the application."""

    @property
    def claimed_headers(self) -> frozenset[str]:
        """Header names that plugins own; nothing else copies or overwrites them."""

    @property
    def servers(self) -> Sequence[str]:
        """The brokers that were asked first, as "host:port"; empty while it does not run."""

    def status(self) -> Status:
        """Return a snapshot of the groups, their partitions and what was published."""

    async def publish(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
    ) -> Delivery:
        """Publish one message; returns once it is buffered."""

    async def raw_publish(
        self,
        stream_id: str,
        data: bytes | None,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
    ) -> Delivery:
        """Publish bytes as they are: no envelope, no schema."""

    async def publish_internal(
        self,
        stream_id: str,
        data: bytes,
        *,
        schema: str,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Publish a whole envelope on the plugin's own account, past all plugins."""

    @property
    def schemas(self) -> Mapping[str, Any]:
        """The schemas that are registered, by name: "Content:1"."""

    def schema(
        self, _id: str | None = None, *, version: int | None = None, retention: int | None = None
    ) -> Callable[[type[BaseModel]], type[BaseModel]]:
        """Register a model of the plugin's own as a schema; its `retention` is in seconds."""

    async def flush(self) -> None:
        """Wait until everything buffered was acknowledged or has failed."""

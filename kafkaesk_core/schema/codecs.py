"""Other forms on the wire than the envelope: plain JSON, and codecs of plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from kafkaesk_core.errors import DecodeError, KafkaeskError
from kafkaesk_core.message import IncomingMessage, OutgoingMessage

if TYPE_CHECKING:
    from .registry import SchemaRegistration

__all__ = ["Codec", "FindCodec", "decode_by_codecs", "decode_plain", "encode_by_codecs"]

# Any below: what data is decoded to.
Decode = Callable[[IncomingMessage], Any]
Encode = Callable[[OutgoingMessage], bytes | None]


class Codec(Protocol):
    """Another form of messages on the wire; what plugins return from the hook `codec`.

    It may also have `form`, the form's name, and `describe(schema)`, which returns what AsyncAPI
    says of such a message beside its data: `headers`, `contentType`.
    """

    def encode(self, message: OutgoingMessage, schema: SchemaRegistration, content: bytes) -> bytes:
        """Return the record's value; `message.headers` may be added to.

        `content` is the validated data as JSON; `message.data` is what was published.
        """

    def decode(
        self, message: IncomingMessage, schema: SchemaRegistration | None
    ) -> tuple[str, bytes]:
        """Return the schema of a record, as "Order:1", and its data as JSON, to be validated.

        `schema` is the handler's, None if its model has none; "" stands for an unknown one. An
        exception means that the record cannot be decoded.
        """


FindCodec = Callable[[str, "SchemaRegistration | None"], Codec | None]
"""Finds the codec of a stream and a schema; None is the envelope."""


def encode_by_codecs(
    encode: Encode,
    find: FindCodec,
    schema_of: Callable[[str], SchemaRegistration | None],
    content_of: Callable[[str, bytes], bytes],
) -> Encode:
    """Return a function that encodes by the codec of a message's stream and schema.

    `encode` makes the envelope and notes the schema in the message, `content_of` takes the data
    out of the envelope.
    """
    known: dict[tuple[str, str], tuple[Codec, SchemaRegistration] | None] = {}

    def encode_any(message: OutgoingMessage) -> bytes | None:
        is_raw = message.data is None or isinstance(message.data, bytes)
        value = encode(message)
        if is_raw or value is None or message.schema is None:
            return value
        place = message.stream, message.schema
        if place not in known:
            schema = schema_of(message.schema)
            codec = None if schema is None else find(message.stream, schema)
            known[place] = None if schema is None or codec is None else (codec, schema)
        found = known[place]
        if found is None:
            return value
        codec, schema = found
        return codec.encode(message, schema, content_of(message.schema, value))

    return encode_any


def decode_by_codecs(
    enveloped: Decode, coded: Decode, find: FindCodec, schema: SchemaRegistration | None
) -> Decode:
    """Return a decoder that decodes by the codec of a record's stream, where there is one.

    `coded` decodes a message whose value is the data alone, and whose `known_schema` is set.
    """
    known: dict[str, Codec | None] = {}

    def decode(message: IncomingMessage) -> Any:
        stream, value = message.stream, message.value
        if stream not in known:
            known[stream] = find(stream, schema)
        codec = known[stream]
        if codec is None or value is None:
            return enveloped(message)
        message.known_schema, message.value = _decoded(codec, message, schema)
        try:
            return coded(message)
        finally:
            message.value = value  # for the next attempt, and for layers

    return decode


def _decoded(
    codec: Codec, message: IncomingMessage, schema: SchemaRegistration | None
) -> tuple[str, bytes]:
    try:
        return codec.decode(message, schema)
    except KafkaeskError:
        raise
    except Exception as error:  # of another library
        raise DecodeError(
            f"{message.topic}[{message.partition}]@{message.offset} cannot be decoded by "
            f"{type(codec).__name__}: {type(error).__name__}: {error}"
        ) from error


def decode_plain(coded: Decode, schema: str) -> Decode:
    """Return a decoder of records that have no envelope; `schema` is that of their stream."""

    def decode(message: IncomingMessage) -> Any:
        message.known_schema = schema
        return coded(message)

    return decode

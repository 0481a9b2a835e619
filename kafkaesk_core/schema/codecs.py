"""Formats on the wire other than the envelope: plain JSON, and the codecs of plugins."""

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
    """A format of messages on the wire; plugins return it from the hook `codec`.

    It may also have `form`, the format's name, and `describe(schema)`, which returns the fields of
    an AsyncAPI message beside its payload: `headers`, `contentType`.
    """

    def encode(self, message: OutgoingMessage, schema: SchemaRegistration, content: bytes) -> bytes:
        """Return the record's value; the codec may add to `message.headers`.

        `content` is the validated data as JSON; `message.data` is the published object.
        """

    def decode(
        self, message: IncomingMessage, schema: SchemaRegistration | None
    ) -> tuple[str, bytes]:
        """Return a record's schema, as "Order:1", and its data as JSON, which is then validated.

        `schema` is the schema of the handler's model, or None. Return "" for an unknown schema. An
        exception means that the record cannot be decoded.
        """


FindCodec = Callable[[str, "SchemaRegistration | None"], Codec | None]
"""Finds the codec of a stream and a schema; None stands for the envelope."""


def encode_by_codecs(
    encode: Encode,
    find: FindCodec,
    schema_of: Callable[[str], SchemaRegistration | None],
    content_of: Callable[[str, bytes], bytes],
) -> Encode:
    """Return a function that encodes with the codec of a message's stream and schema.

    `encode` makes the envelope and notes the schema in the message; `content_of` extracts the data
    from the envelope.
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
    """Return a decoder that uses the codec of a record's stream, if there is one.

    `coded` decodes a message whose value is only the data, and whose `known_schema` is set.
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
    """Return a decoder of records without an envelope; `schema` is their stream's schema."""

    def decode(message: IncomingMessage) -> Any:
        message.known_schema = schema
        return coded(message)

    return decode

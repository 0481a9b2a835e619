"""Upgrades the data of older schema versions before validation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from kafkaesk_core.errors import InvalidMessageError
from kafkaesk_core.message import IncomingMessage

__all__ = ["Upcast", "upcasting", "upcasting_content"]

# Any below: the data of messages, any JSON, and what it is decoded to.
Upcast = Callable[[Any], Any]
Decode = Callable[[IncomingMessage], Any]


def upcasting(
    decode: Decode,
    decode_content: Callable[[IncomingMessage, bytes], Any],
    upcasts: Mapping[str, Upcast],
    current: Collection[str],
) -> Decode:
    """Return a decoder that upgrades data of the versions in `upcasts`.

    `decode` decodes an envelope, `decode_content` data without an envelope. A record of a version
    in `current`, written by the core, costs one comparison of its first bytes.
    """
    prefixes = tuple(b'{"schema":' + to_json(key) for key in current)

    def decode_any(message: IncomingMessage) -> Any:
        value = message.value
        if value is None or value.startswith(prefixes):
            return decode(message)
        schema = message.schema
        upcast = upcasts.get(schema)
        if upcast is None:
            return decode(message)
        envelope = from_json(value)
        if "data" not in envelope:
            return decode(message)  # which says so
        return decode_content(message, _upcast(message, schema, upcast, envelope["data"]))

    return decode_any


def upcasting_content(
    decode: Decode,
    decode_content: Callable[[IncomingMessage, bytes], Any],
    upcasts: Mapping[str, Upcast],
) -> Decode:
    """Return such a decoder for messages whose value is only the data, with a known schema."""

    def decode_any(message: IncomingMessage) -> Any:
        schema = message.schema
        upcast = upcasts.get(schema)
        if upcast is None or message.value is None:
            return decode(message)
        try:
            data = from_json(message.value)
        except ValueError:
            return decode(message)  # which says so
        return decode_content(message, _upcast(message, schema, upcast, data))

    return decode_any


def _upcast(message: IncomingMessage, schema: str, upcast: Upcast, data: Any) -> bytes:
    try:
        return to_json(upcast(data))
    except Exception as error:  # the upcaster is the service's own
        raise InvalidMessageError(
            f"{message.topic}[{message.partition}]@{message.offset} has schema {schema}, and its "
            f"upcaster failed: {type(error).__name__}; correct the upcaster",
            schema=schema,
            topic=message.topic,
        ) from error

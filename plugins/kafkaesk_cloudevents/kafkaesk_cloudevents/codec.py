"""The codec: the value is the data, and the attributes are headers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic_core import from_json, to_json

from kafkaesk_core import (
    DecodeError,
    InvalidMessageError,
)

from .event import CONTENT_TYPE, PREFIX, SPECVERSION, problem_of_attribute, timestamp_of
from .reading import is_event, read_event
from .type_names import OPTION

if TYPE_CHECKING:
    from kafkaesk_core import (
        IncomingMessage,
        OutgoingMessage,
        SchemaRegistration,
    )

    from .settings import CloudEventsSettings
    from .type_names import TypeNames

__all__ = ["CloudEventsCodec"]

_JSON = b"application/json"
_IS_JSON = re.compile(rb"[\w.+-]+/([\w.-]+\+)?json\s*(;.*)?", re.IGNORECASE)


class CloudEventsCodec:
    """Writes events in binary mode; reads events in binary and structured mode."""

    form = "CloudEvents"

    def __init__(self, settings: CloudEventsSettings, type_names: TypeNames) -> None:
        self._source = settings.source.encode()
        self._also_envelopes = settings.also_envelopes
        self._types = type_names

    def encode(self, message: OutgoingMessage, schema: SchemaRegistration, content: bytes) -> bytes:
        """Add the attributes to the headers; keep attributes that the caller has set.

        A message that is encoded again keeps its id, so that readers recognize it.
        """
        kind = self._types.type_of(schema).encode()
        now = time.time() if message.timestamp_ms is None else message.timestamp_ms / 1000
        attributes = {
            "ce_specversion": SPECVERSION.encode(),
            "ce_id": str(uuid4()).encode(),
            "ce_source": self._source,
            "ce_type": kind,
            "ce_time": timestamp_of(datetime.fromtimestamp(now, UTC)).encode(),
            CONTENT_TYPE: _JSON,
        }
        own = [
            name for name, _ in message.headers if name.startswith(PREFIX) or name == CONTENT_TYPE
        ]
        if own:
            _check_own(own, attributes, message, schema)
        message.headers += (each for each in attributes.items() if each[0] not in own)
        return content

    def decode(
        self, message: IncomingMessage, schema: SchemaRegistration | None
    ) -> tuple[str, bytes]:
        """Return the schema of the event's type, and the event's data."""
        if self._also_envelopes and not is_event(message):
            return _of_envelope(message)
        attributes, data = read_event(message)
        kind = attributes["type"]
        key = self._types.key_of(kind)
        if key is None and schema is not None:
            raise DecodeError(
                f"{message.topic}[{message.partition}]@{message.offset} has the CloudEvents type "
                f"{kind!r}, which stands for no schema; give it to one, as in "
                f"@app.schema({schema.id!r}, options={{{OPTION!r}: {kind!r}}})"
            )
        return key or kind, data

    def describe(self, schema: SchemaRegistration) -> Mapping[str, Any]:
        """Return the fields of an AsyncAPI message beside its payload."""
        texts = {"specversion": SPECVERSION, "type": self._types.type_of(schema)}
        fixed = {PREFIX + name: {"type": "string", "const": text} for name, text in texts.items()}
        others = {
            "ce_id": {"type": "string", "minLength": 1},
            "ce_source": {"type": "string", "format": "uri-reference", "minLength": 1},
            "ce_time": {"type": "string", "format": "date-time"},
            CONTENT_TYPE: {"type": "string"},
        }
        required = [*fixed, "ce_id", "ce_source"]
        headers = {"type": "object", "properties": {**fixed, **others}, "required": required}
        return {"headers": headers, "contentType": _JSON.decode()}


def _check_own(
    own: Sequence[str],
    attributes: Mapping[str, bytes],
    message: OutgoingMessage,
    schema: SchemaRegistration,
) -> None:
    """Refuse a caller's headers that no event has, or that contradict the event."""
    problems = [
        _problem_of_header(name, value, attributes)
        for name, value in message.headers
        if name in own
    ]
    problems += [f"the header {name} is set twice" for name in set(own) if own.count(name) > 1]
    for problem in filter(None, problems):
        raise InvalidMessageError(
            f"a CloudEvent of schema {schema.key} for topic {message.topic} cannot be written: "
            f"{problem}",
            schema=schema.key,
            topic=message.topic,
        )


def _problem_of_header(
    name: str, value: bytes | None, attributes: Mapping[str, bytes]
) -> str | None:
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError:
        return f"the header {name} is no UTF-8; make it with event_headers(), which writes Base64"
    if name == CONTENT_TYPE:
        is_json = _IS_JSON.fullmatch(value or b"")
        return None if is_json else f"the header {name} is {text!r}, and its data is JSON"
    if name in ("ce_specversion", "ce_type") and value != attributes[name]:
        own = attributes[name].decode()
        return (
            f"the header {name} is {text!r}, and it is written as {own!r}; leave the header out, "
            f"or give the schema its type with options={{{OPTION!r}: ...}}"
        )
    return problem_of_attribute(name.removeprefix(PREFIX), text)


# Any below: JSON.


def _of_envelope(message: IncomingMessage) -> tuple[str, bytes]:
    """Return the schema and the data of a record that still has an envelope."""
    schema = message.schema
    envelope: dict[str, Any] = from_json(message.value or b"")
    if "data" not in envelope:
        raise DecodeError(
            f"{message.topic}[{message.partition}]@{message.offset} is not a CloudEvent, and an "
            "envelope without data"
        )
    return schema, to_json(envelope["data"])

"""The content of a record: its schema and data, as far as they can be read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from kafkaesk_core import Application, ConsumerRecord, IncomingMessage, SchemaRegistration

__all__ = ["Content", "ContentReader", "parse_json"]

# Any below: JSON of any type.

Kind = Literal["tombstone", "json", "text", "binary"]


@dataclass(frozen=True, slots=True)
class Content:
    """The value of a record: JSON `data`, else text, else bytes.

    `document` is the whole value as JSON, with the envelope if it has one. `problem` says why a
    codec could not read it.
    """

    kind: Kind
    schema: str = ""
    data: Any = None
    document: Any = None
    problem: str = ""


class ContentReader:
    """Reads values of one stream; with an application, also values in its codecs' formats."""

    def __init__(self, app: Application | None, stream: str) -> None:
        self._stream = stream
        self._schema = None if app is None else _schema_of(app, stream)
        codec = None if app is None else app.plugins.codec
        self._codec = None if codec is None else codec(stream, self._schema)

    def read(self, record: ConsumerRecord) -> Content:
        """Return a value's content; an unreadable value becomes text or bytes, never an error."""
        value = record.value
        if value is None:
            return Content("tombstone")
        problem = ""
        if self._codec is not None:
            message = IncomingMessage(record, self._stream)
            try:
                schema, content = self._codec.decode(message, self._schema)
                data = json.loads(content)
                return Content("json", schema, data, {"schema": schema, "data": data})
            except Exception as error:  # of a plugin, about a record of anybody
                problem = f"{type(error).__name__}: {error}"
        is_json, document = parse_json(value)
        if is_json:
            return self._of_json(document, problem)
        try:
            return Content("text", data=value.decode(), problem=problem)
        except UnicodeDecodeError:
            return Content("binary", data=value, problem=problem)

    def _of_json(self, document: Any, problem: str) -> Content:
        if _is_envelope(document):
            return Content("json", document["schema"], document["data"], document, problem)
        plain = self._schema
        schema = plain.key if plain is not None and not plain.envelope else ""
        return Content("json", schema, document, document, problem)


def _is_envelope(document: Any) -> bool:
    is_object = isinstance(document, dict) and "data" in document
    return is_object and isinstance(document.get("schema"), str)


def _schema_of(app: Application, stream: str) -> SchemaRegistration | None:
    found = [each for each in app.schemas.values() if stream in each.streams]
    return max(found, key=lambda each: each.version, default=None)


def parse_json(value: bytes) -> tuple[bool, Any]:
    """Return whether bytes are JSON, and the parsed value."""
    try:
        return True, json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False, None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")

"""The declarations of `publishes()`: a schema for each stream."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel

from .errors import ConfigurationError, SchemaConflictError, UnknownSchemaError
from .schema.registry import SchemaRegistration, Schemas
from .topic_names import TOPIC_NAME_RULE, is_topic_name

__all__ = ["Publication", "resolve_publications"]


@dataclass(frozen=True, slots=True)
class Publication:
    """A stream, and the model or schema ("Content:1") that the service publishes to it.

    Raises:
        ConfigurationError: the stream is not a valid topic name, or the schema is not a schema.
    """

    stream: str
    schema: type[BaseModel] | str

    def __post_init__(self) -> None:
        is_model = inspect.isclass(self.schema) and issubclass(self.schema, BaseModel)
        if not (is_model or isinstance(self.schema, str)):
            raise ConfigurationError(
                f"{self}: give a pydantic model, or the key of a schema, as in 'Content:1'"
            )
        if not (isinstance(self.stream, str) and is_topic_name(self.stream)):
            raise ConfigurationError(
                f"{self}: stream {self.stream!r} cannot be a topic; {TOPIC_NAME_RULE}"
            )

    def __str__(self) -> str:
        named = getattr(self.schema, "__qualname__", None) or repr(self.schema)
        return f"publishes({self.stream!r}, {named})"


def resolve_publications(
    publications: Iterable[Publication], schemas: Schemas
) -> dict[str, SchemaRegistration]:
    """Return the latest version of the schema that the service publishes to each stream.

    Raises:
        UnknownSchemaError: the model or the schema is not registered.
        SchemaConflictError: a stream is declared with two schemas.
    """
    resolved: dict[str, SchemaRegistration] = {}
    carried = {stream: each for each in schemas for stream in each.streams}
    for publication in publications:
        found = _resolve(publication, schemas)
        stream = publication.stream
        other = resolved.get(stream) or carried.get(stream)
        if other is not None and other.id != found.id:
            raise SchemaConflictError(
                f"{publication}: the stream carries schema {other.key}, declared in "
                f"{other.declared_in}, so it cannot carry {found.key}; publish to a stream of its "
                "own",
                schema=found.key,
            )
        resolved[stream] = max(found, resolved.get(stream, found), key=lambda one: one.version)
    return resolved


def _resolve(publication: Publication, schemas: Schemas) -> SchemaRegistration:
    named = publication.schema
    found = schemas.get(named) if isinstance(named, str) else None
    versions = [found] if found else [] if isinstance(named, str) else schemas.of_model(named)
    if not versions:
        known = ", ".join(sorted(each.key for each in schemas)) or "none"
        raise UnknownSchemaError(
            f"{publication}: this schema is not registered (registered: {known}); register it with "
            "@app.schema()"
        )
    return max(versions, key=lambda one: one.version)

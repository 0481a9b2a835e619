"""The description of an application as plain data, for commands, documents and plugins."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["Description", "HandlerDescription", "SchemaDescription", "StreamDescription"]


class StreamDescription(TypedDict):
    """A stream that the application publishes, subscribes to or creates.

    `schemas` are the schemas that it carries ("Order:1"); empty if the application only reads it.
    `published` are the schemas that `app.publishes()` names. `groups` consume its messages.
    """

    stream: str
    topic: str
    schemas: list[str]
    published: list[str]
    groups: list[str]


class HandlerDescription(TypedDict):
    """A subscription. `takes` is the type of a message's data; `schemas` are those of its models.

    `streams` are names, or one fnmatch pattern if `is_pattern`. `settings` has only the values that
    differ from the application's. `options` are the plugins' options, as JSON.
    """

    handler: str
    summary: str
    group: str
    streams: list[str]
    is_pattern: bool
    takes: str
    schemas: list[str]
    is_batch: bool
    ordering: str
    on_error: str
    settings: dict[str, Any]
    skip_plugins: list[str]
    options: dict[str, Any]


class SchemaDescription(TypedDict):
    """A schema. `document` is its JSON Schema, or None; `retention` is in seconds.

    With `envelope` False its messages are plain JSON.
    """

    schema: str
    id: str
    version: int
    summary: str
    declared_in: str
    document: dict[str, Any] | None
    streams: list[str]
    retention: int | None
    partitions: int | None
    replication_factor: int | None
    envelope: bool
    options: dict[str, Any]


class Description(TypedDict):
    """An application. `plugins` has the fields of `PluginInfo`."""

    topic_prefix: str
    streams: list[StreamDescription]
    handlers: list[HandlerDescription]
    schemas: list[SchemaDescription]
    plugins: list[dict[str, Any]]

"""Describes an application for `app.describe()`: its declarations and its plugins."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import from_json, to_json

from .description import (
    Description,
    HandlerDescription,
    SchemaDescription,
    StreamDescription,
)
from .handlers import data_of, function_of
from .plugins.manager import Plugins
from .publications import resolve_publications
from .router import Router, Subscription
from .schema.decoding import registrations_of
from .schema.registry import SchemaRegistration, Schemas

__all__ = ["describe"]


def describe(router: Router, schemas: Schemas, plugins: Plugins, topic_prefix: str) -> Description:
    """Describe the declarations and the plugins, which were checked before."""
    schemas.complete()
    claimed = plugins.claimed_streams
    return {
        "topic_prefix": topic_prefix,
        "streams": _streams(router, schemas, claimed, topic_prefix),
        "handlers": [_handler(each, schemas) for each in router.subscriptions],
        "schemas": [_schema(each) for each in schemas],
        "plugins": [_plain(asdict(each)) for each in plugins.list()],
    }


def _streams(
    router: Router, schemas: Schemas, claimed: frozenset[str], prefix: str
) -> list[StreamDescription]:
    published = resolve_publications(router.publications, schemas)
    carried: dict[str, list[str]] = {}
    for each in schemas:
        for stream in each.streams:
            carried.setdefault(stream, []).append(each.key)
    for stream, schema in published.items():
        keys = carried.setdefault(stream, [])
        keys += [] if schema.key in keys else [schema.key]
    for subscription in router.subscriptions:
        for stream in subscription.literal_streams:
            carried.setdefault(stream, [])
    return [
        {
            "stream": stream,
            "topic": prefix + stream,
            "schemas": sorted(keys),
            "published": [published[stream].key] if stream in published else [],
            "groups": sorted(
                {one.group for one in router.subscriptions if one.matches(stream, claimed)}
            ),
        }
        for stream, keys in sorted(carried.items())
    ]


def _handler(subscription: Subscription, schemas: Schemas) -> HandlerDescription:
    annotation, is_batch = data_of(subscription)
    on_error = subscription.on_error
    return {
        "handler": subscription.handler_name,
        "summary": _summary(function_of(subscription.func)),
        "group": subscription.group,
        "streams": list(subscription.streams),
        "is_pattern": not subscription.literal_streams,
        "takes": _name(annotation),
        "schemas": [each.key for each in registrations_of(annotation, schemas.of_model)],
        "is_batch": is_batch,
        "ordering": subscription.ordering,
        "on_error": on_error if isinstance(on_error, str) else _name(on_error),
        "settings": _settings(subscription, is_batch=is_batch),
        "skip_plugins": sorted(subscription.skip_plugins),
        "options": _plain(dict(subscription.options)),
    }


def _settings(subscription: Subscription, *, is_batch: bool) -> dict[str, Any]:
    limits = {
        "concurrency": subscription.concurrency,
        "timeout_seconds": subscription.timeout_seconds,
    }
    given = {name: value for name, value in limits.items() if value is not None}
    if is_batch:
        given["batch_size"], given["batch_timeout"] = subscription.batch_limits
    return {**given, **subscription.overrides}


def _schema(registration: SchemaRegistration) -> SchemaDescription:
    return {
        "schema": registration.key,
        "id": registration.id,
        "version": registration.version,
        "summary": _summary_of_schema(registration),
        "declared_in": registration.declared_in,
        "document": _document(registration),
        "streams": list(registration.streams),
        "retention": registration.retention,
        "partitions": registration.partitions,
        "replication_factor": registration.replication_factor,
        "envelope": registration.envelope,
        "options": _plain(dict(registration.options)),
    }


def _document(registration: SchemaRegistration) -> dict[str, Any] | None:
    """Return the JSON Schema of the data on the wire; None for a model that has none."""
    if registration.model is None:
        document: dict[str, Any] = _plain(registration.document)
        return document
    try:
        return registration.model.model_json_schema()
    except PydanticInvalidForJsonSchema:
        return None


def _summary_of_schema(registration: SchemaRegistration) -> str:
    if registration.model is None:
        document = registration.document or {}
        return str(document.get("description") or document.get("title") or "")
    return _summary(registration.model)


def _summary(described: object) -> str:
    """Return the first line of the object's own docstring."""
    own = getattr(described, "__doc__", None)
    return inspect.cleandoc(own).partition("\n")[0] if isinstance(own, str) else ""


def _name(described: Any) -> str:
    """Return a type as its annotation, a class or function as "module.qualified_name"."""
    if described is inspect.Parameter.empty:
        return "envelope"
    qualified = getattr(described, "__qualname__", None)
    if qualified is None or get_args(described):
        return str(described)
    module = getattr(described, "__module__", "builtins")
    return qualified if module == "builtins" else f"{module}.{qualified}"


def _plain(value: Any) -> Any:
    """Convert a value to JSON-able data; values that JSON does not have become text."""
    return from_json(to_json(value, fallback=_fallback, inf_nan_mode="strings"))


def _fallback(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    return _name(value) if callable(value) else repr(value)

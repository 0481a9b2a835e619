"""Logs the effect of each layer on a message, and its time, for `KAFKAESK_DEBUG_HOOKS`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafkaesk_core.message import IncomingMessage, OutgoingMessage
from kafkaesk_core.schema.registry import SchemaRegistration

__all__ = ["log_layer"]

logger = logging.getLogger("kafkaesk.hooks")

# Any below: a layer's subject, result and other arguments differ by hook.
Layer = Callable[..., Any]


def log_layer(hook: str, plugin: str, function: Layer) -> Layer:
    """Wrap one plugin's function of a `wrap_*` hook so that its calls are logged at level INFO.

    One line is logged when the layer is entered, one for each `call_next` with the changes to the
    subject so far, and one when the layer is left, with its duration or its exception. Only the
    names of changed fields are logged, because values may be secret.
    """

    async def logged(subject: Any, call_next: Layer, *extra: Any) -> Any:
        place, before, began = _place(subject), _describe(subject), time.perf_counter()

        async def inward(inner: Any) -> Any:
            changes = _list_changes(before, _describe(inner))
            logger.info("%s %s: %s calls the next layer; changed: %s", hook, place, plugin, changes)
            return await call_next(inner)

        logger.info("%s %s: enters %s", hook, place, plugin)
        try:
            result = await function(subject, inward, *extra)
        except BaseException as error:
            spent = 1000 * (time.perf_counter() - began)
            logger.info("%s %s: %r leaves %s, %.3f ms", hook, place, error, plugin, spent)
            raise
        spent = 1000 * (time.perf_counter() - began)
        logger.info("%s %s: leaves %s, %.3f ms", hook, place, plugin, spent)
        return result

    return logged


def _place(subject: Any) -> str:
    """Return the position in Kafka of a hook's subject, or the planned one."""
    if isinstance(subject, IncomingMessage):
        return f"{subject.topic}[{subject.partition}]@{subject.offset}"
    if isinstance(subject, OutgoingMessage):
        return f"to {subject.topic}"
    if isinstance(subject, SchemaRegistration):
        return subject.id
    if isinstance(subject, Mapping):  # a commit
        return ", ".join(f"{p.topic}[{p.partition}]@{offset}" for p, offset in subject.items())
    return f"{_place(subject[0])} and {len(subject) - 1} more" if subject else "an empty batch"


def _describe(subject: Any) -> dict[str, Any]:
    """Return the values that a layer may change, by the names for the log."""
    if isinstance(subject, IncomingMessage):
        return {"value": subject.value, **_describe_both(subject)}
    if isinstance(subject, OutgoingMessage):
        names = ("stream", "topic", "data", "key", "schema", "partition", "timestamp_ms")
        return {**{name: getattr(subject, name) for name in names}, **_describe_both(subject)}
    if isinstance(subject, SchemaRegistration):
        return {"schema": subject}
    if isinstance(subject, Mapping):
        return {f"{p.topic}[{p.partition}]": offset for p, offset in subject.items()}
    described: dict[str, Any] = {}
    for message in subject:
        place = _place(message)
        described |= {f"{place} {name}": value for name, value in _describe(message).items()}
    return described


def _describe_both(message: IncomingMessage | OutgoingMessage) -> dict[str, Any]:
    headers: Sequence[tuple[str, bytes | None]] = message.headers
    found: dict[str, Any] = {}
    for name, value in headers:
        found.setdefault(f"header {name}", []).append(value)
    return {**found, **{f"meta {name}": value for name, value in message.meta.items()}}


def _list_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the names of values that were added (+), removed (-) or changed."""
    found = [f"+{name}" for name in now if name not in before]
    found += [f"-{name}" for name in before if name not in now]
    found += [name for name in before if name in now and not _is_same(before[name], now[name])]
    return ", ".join(found) or "nothing"


def _is_same(one: object, other: object) -> bool:
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # an `__eq__` of the service's
        return False

"""Upcasters: functions that upgrade the data of an older version to the next one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kafkaesk_core import ConfigurationError

if TYPE_CHECKING:
    from kafkaesk_core import Router, SchemaRegistration

__all__ = ["Chain", "Upcaster", "Upcasters", "chains_to", "check_targets", "upcast", "upcasters_of"]

# Any below: the data of messages, any JSON.
Convert = Callable[[Any], Any]
F = TypeVar("F", bound=Convert)

Upcasters = Mapping[tuple[str, int], "Upcaster"]

_HELD = "__kafkaesk_upcasters__"


@dataclass(frozen=True, slots=True)
class Upcaster:
    """Upgrades data of `schema` from `version` to the version `to`."""

    schema: str
    version: int
    to: int
    convert: Convert

    @property
    def name(self) -> str:
        """The function as "module.function"."""
        return f"{self.convert.__module__}.{getattr(self.convert, '__qualname__', self.convert)}"


@dataclass(frozen=True, slots=True)
class Chain:
    """The upcasters from one version to another, in order."""

    upcasters: tuple[Upcaster, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the functions, in order."""
        return tuple(each.name for each in self.upcasters)

    def convert(self, data: Any) -> Any:
        """Upgrade data through all upcasters."""
        for each in self.upcasters:
            data = each.convert(data)
        return data


def upcast(app: Router, schema: str, version: int, *, to: int | None = None) -> Callable[[F], F]:
    """Decorate a function that upgrades data of a schema from `version` to the next one, or `to`.

    The function takes and returns the data as JSON-able values, usually a dict. It runs before the
    validation if a handler's model has a later version than the message.

    Raises:
        ConfigurationError: the version already has an upcaster, or an argument is invalid.
    """
    from kafkaesk_core import Router

    if not isinstance(app, Router):
        raise ConfigurationError(f"upcast() takes an application or a router, got {app!r}")
    said = f"upcast(app, {schema!r}, {version!r})"
    if not isinstance(schema, str) or not schema or ":" in schema:
        raise ConfigurationError(
            f"{said}: give the schema's name and the version that it begins with, as in "
            "upcast(app, 'Order', 1)"
        )
    if not _is_version(version):
        raise ConfigurationError(f"{said}: versions are whole numbers from 1 on")
    if to is not None and not (_is_version(to) and to > version):
        raise ConfigurationError(
            f"{said}: to={to!r} is not a later version; leave it out for the next"
        )

    def decorate(convert: F) -> F:
        if not callable(convert) or inspect.iscoroutinefunction(convert):
            raise ConfigurationError(
                f"the upcaster of {schema}:{version} must be a plain 'def' function of the data, "
                f"got {convert!r}"
            )
        held = vars(app).setdefault(_HELD, {})
        added = Upcaster(schema, version, to or version + 1, convert)
        if (schema, version) in held:
            raise _twice(held[schema, version], added)
        held[schema, version] = added
        return convert

    return decorate


def _is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def upcasters_of(app: Router) -> dict[tuple[str, int], Upcaster]:
    """Return the upcasters of an application and its mounted routers.

    Raises:
        ConfigurationError: a version has two upcasters.
    """
    found: dict[tuple[str, int], Upcaster] = {}
    for router in (app, *app.mounted):
        for key, upcaster in vars(router).get(_HELD, {}).items():
            if key in found:
                raise _twice(found[key], upcaster)
            found[key] = upcaster
    return found


def _twice(one: Upcaster, other: Upcaster) -> ConfigurationError:
    return ConfigurationError(
        f"{one.schema}:{one.version} is upcast by {one.name} and by {other.name}; remove one"
    )


def chains_to(upcasters: Upcasters, schema: str, version: int) -> dict[int, Chain]:
    """Return the chains to a version of a schema, by their first version.

    Raises:
        ConfigurationError: an upcaster in between is missing.
    """
    older = sorted(start for name, start in upcasters if name == schema and start < version)
    return {start: _chain(upcasters, schema, start, version) for start in older}


def _chain(upcasters: Upcasters, schema: str, start: int, version: int) -> Chain:
    steps: list[Upcaster] = []
    reached = start
    while reached < version:
        step = upcasters.get((schema, reached))
        if step is None:
            raise ConfigurationError(
                f"{schema}:{start} is upcast by {upcasters[schema, start].name}, and "
                f"{schema}:{reached} on the way to {schema}:{version} by nothing; "
                f"add upcast(app, {schema!r}, {reached})"
            )
        steps.append(step)
        reached = step.to
    if reached > version:
        raise ConfigurationError(
            f"{steps[-1].name} upcasts {schema}:{steps[-1].version} to {schema}:{reached}, past "
            f"{schema}:{version}, which is still registered; give each version an upcaster, or "
            f"remove {schema}:{version}"
        )
    return Chain(tuple(steps))


def check_targets(upcasters: Upcasters, schemas: Iterable[SchemaRegistration]) -> None:
    """Refuse upcasters to unregistered versions, or to versions whose records have no envelope.

    Raises:
        ConfigurationError: no later version of the schema is registered, or none has an envelope.
    """
    versions: dict[str, dict[int, SchemaRegistration]] = {}
    for schema in schemas:
        versions.setdefault(schema.id, {})[schema.version] = schema
    for (name, start), upcaster in upcasters.items():
        known = versions.get(name, {})
        later = [schema for version, schema in known.items() if version > start]
        said = f"{upcaster.name} upcasts {name}:{start}, and"
        if not later:
            listed = ", ".join(known[version].key for version in sorted(known)) or "none"
            raise ConfigurationError(
                f"{said} no later version is registered (registered: {listed}); register "
                f"{name}:{upcaster.to}, or remove it"
            )
        if not any(schema.envelope for schema in later):
            raise ConfigurationError(
                f"{said} {later[0].key} is registered with envelope=False, so that no record says "
                "its version; take envelope=False away, or remove the upcaster"
            )

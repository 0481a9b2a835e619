"""Copies the messages of an application, without anything that would start."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kafkaesk_core import Application, ConfigurationError, PluginInfo
from kafkaesk_core.command import cluster_settings

__all__ = ["replica_of"]


def replica_of(
    app: Application | None,
    streams: Collection[str],
    options: Mapping[str, Any],  # of `cluster_options`
    hooks: Collection[str],
) -> Application:
    """Return an application with the settings and schemas of another one, if given.

    The copy has no subscriptions and no event handlers. It has only the plugins with one of these
    hooks and without a lifespan; other plugins would open ports or start to work. At its start,
    only `streams` are created.

    Raises:
        ConfigurationError: a plugin with a lifespan determines the meaning of records' bytes.
    """
    settings = cluster_settings(app, options)
    replica = Application(entry_points=False)
    replica.override(**settings.model_dump(exclude_unset=True))
    if app is None:
        return replica
    for info in _usable(app, hooks):
        replica.plugins.register(app.plugins.get(info.name), info.name, source=info.source)
    claimed = replica.plugins.claimed_options
    for schema in app.schemas.values():
        replica.schema(
            schema.id,
            version=schema.version,
            retention=schema.retention,
            streams=[stream for stream in schema.streams if stream in streams],
            partitions=schema.partitions,
            replication_factor=schema.replication_factor,
            options={name: value for name, value in schema.options.items() if name in claimed},
            envelope=schema.envelope,
        )(schema.model or schema.document or {})
    return replica


def _usable(app: Application, hooks: Collection[str]) -> Iterator[PluginInfo]:
    for info in app.plugins.list():
        if info.status != "active" or not set(hooks).intersection(info.hooks):
            continue
        if "lifespan" not in info.hooks:
            yield info
        elif info.stage == "deliver" or "codec" in info.hooks:
            raise ConfigurationError(
                f"plugin {info.name!r} decides what the bytes of records mean, and it needs a "
                "running service to do so; this command can only take the bytes as they are (--raw)"
            )

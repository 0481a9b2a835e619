"""What installed packages provide, by entry-point group; `load()` imports it."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

__all__ = ["APPS", "BOOTSTRAP", "COMMANDS", "PLUGINS", "EntryPoint", "find_entry_points"]

APPS = "kafkaesk.apps"
BOOTSTRAP = "kafkaesk.bootstrap"
COMMANDS = "kafkaesk.commands"
PLUGINS = "kafkaesk.plugins"


def find_entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
    """Return the entry points of a group, or those of one name, by their names."""
    found = entry_points(group=group) if name is None else entry_points(group=group, name=name)
    return sorted(found, key=lambda entry_point: entry_point.name)

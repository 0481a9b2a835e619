"""The entry points of installed packages; `load()` imports one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

__all__ = ["APPS", "BOOTSTRAP", "COMMANDS", "PLUGINS", "EntryPoint", "find_entry_points"]

APPS = "kafkaesk.apps"
BOOTSTRAP = "kafkaesk.bootstrap"
COMMANDS = "kafkaesk.commands"
PLUGINS = "kafkaesk.plugins"


def find_entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
    """Return the entry points of a group, or only those with one name, sorted by name."""
    found = entry_points(group=group) if name is None else entry_points(group=group, name=name)
    return sorted(found, key=lambda entry_point: entry_point.name)

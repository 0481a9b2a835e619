"""The entry points of installed packages: finds them, and imports what they name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any, Protocol

__all__ = [
    "APPS",
    "BOOTSTRAP",
    "COMMANDS",
    "PLUGINS",
    "EntryPoint",
    "Loadable",
    "describe_rivals",
    "find_entry_points",
    "load_entry_point",
    "package_of",
]

APPS = "kafkaesk.apps"
BOOTSTRAP = "kafkaesk.bootstrap"
COMMANDS = "kafkaesk.commands"
PLUGINS = "kafkaesk.plugins"


class Loadable(Protocol):
    """The attributes of an entry point that are read, besides `dist`."""

    @property
    def name(self) -> str:
        """Its name in the group."""

    @property
    def value(self) -> str:
        """What it names: "module:attribute" or "module"."""

    def load(self) -> Any:  # whatever is there
        """Import what it names."""


def find_entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
    """Return the entry points of a group, or only those with one name, sorted by name."""
    found = entry_points(group=group) if name is None else entry_points(group=group, name=name)
    return sorted(found, key=lambda entry_point: entry_point.name)


def package_of(entry_point: Loadable) -> tuple[str, str]:
    """Return the name and the version of the package, as far as its metadata has them."""
    package = getattr(entry_point, "dist", None)
    if not isinstance(package, Distribution):
        name, version = getattr(package, "name", None), getattr(package, "version", None)
        return name or "an unknown package", version or ""
    metadata = package.metadata  # parsed at each access; empty if the installation is damaged
    known = {field: metadata[field] for field in ("Name", "Version") if field in metadata}
    return known.get("Name", "an unknown package"), known.get("Version", "")


def describe_rivals(found: Sequence[Loadable]) -> str:
    """Return the packages that use one name for different objects; "" if there are none."""
    if len({entry_point.value for entry_point in found}) < 2:
        return ""
    packages = sorted(package_of(entry_point)[0] for entry_point in found)
    return f"is provided by {' and by '.join(packages)}; uninstall one of them"


def load_entry_point(entry_point: Loadable) -> Any:  # whatever is there
    """Import what an entry point names.

    Raises:
        ImportError: the entry point names nothing that can be imported.
        BaseException: whatever the package's code raises.
    """
    if isinstance(entry_point, EntryPoint) and not entry_point.pattern.match(entry_point.value):
        raise ImportError(f"the entry point {entry_point.value!r} is not module:attribute")
    return entry_point.load()

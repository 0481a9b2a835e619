"""Environment variables that nobody reads: a misspelt one must not be passed over in silence."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from pydantic import BaseModel

from .discovery import find_installed
from .registry import Plugins
from .settings import prefix_of, variables_of

__all__ = ["warn_of_unread"]

logger = logging.getLogger("kafkaesk.plugins")

_PREFIX = "KAFKAESK_"
_ALMOST = "KAFK"
_SURE = 0.9
"""How alike a name without our prefix must be to one of ours to be told."""


def warn_of_unread(core: Collection[str], plugins: Plugins, environ: Mapping[str, str]) -> None:
    """Log each variable with our prefix that neither the core nor a plugin reads.

    What begins with the name of a plugin that is not loaded, or that the service has made itself,
    is its own business.
    """
    known = set(core)
    foreign = set()
    suspects = [name for name in environ if name.upper().startswith(_ALMOST)]
    if all(name.upper() in known for name in suspects):
        return
    for name, model in _models(plugins):
        known |= variables_of(model, name)
    active = {info.name for info in plugins.list() if info.status == "active"}
    read = {prefix_of(name) for name, _ in _models(plugins)}
    foreign = {prefix_of(name) for name in {*active, *_installed()}} - read
    for name in _unread(suspects, known, tuple(foreign)):
        logger.warning(
            "the environment variable %s is not a setting and has no effect%s",
            *(name, _hint(name.upper(), known)),
        )


def _hint(name: str, known: Collection[str]) -> str:
    """Compare what follows the prefix, which is alike in all."""
    close = get_close_matches(
        name.removeprefix(_PREFIX), [one.removeprefix(_PREFIX) for one in known], n=1
    )
    return f"; did you mean '{_PREFIX}{close[0]}'?" if close else ""


def _unread(names: Iterable[str], known: Collection[str], foreign: tuple[str, ...]) -> list[str]:
    found = []
    for name in sorted(names):
        upper = name.upper()
        if upper in known or (foreign and upper.startswith(foreign)):
            continue
        if upper.startswith(_PREFIX) or get_close_matches(upper, known, n=1, cutoff=_SURE):
            found.append(name)
    return found


def _models(plugins: Plugins) -> list[tuple[str, type[BaseModel] | None]]:
    """The active plugins that were made from the environment, and the models of their settings."""
    found = []
    for info in plugins.list():
        if info.status == "active" and info.source != "app":
            plugin = plugins.get(info.name)
            model = getattr(type(plugin), "Settings", None)
            is_model = inspect.isclass(model) and issubclass(model, BaseModel)
            found.append((info.name, model if is_model else None))
    return found


def _installed() -> list[str]:
    return [plugin.name for plugin in find_installed()]

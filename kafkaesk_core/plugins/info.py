"""What a plugin is called, where it comes from, and its state."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from kafkaesk_core.hooks import Stage, hookimpl

__all__ = ["PluginInfo", "Status", "default_name", "function_plugin", "place_of"]

Status = Literal["active", "disabled", "failed"]
Function = Callable[..., Any]  # any hook's


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One plugin as `kafkaesk plugins` lists it; `dataclasses.asdict` of it is JSON-able.

    `source` is the package that provides it, "app" for one of the service's own. `value` is
    "module:name". `reason` says why it is not active.
    """

    name: str
    source: str
    value: str
    version: str = ""
    status: Status = "active"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    stage: str | None = None


def default_name(plugin: object) -> str:
    """Name a plugin by its attribute `name`, else by its module or class: "dead-letter"."""
    name = getattr(plugin, "name", None)
    if isinstance(name, str) and name:
        return name
    if isinstance(plugin, ModuleType):
        return plugin.__name__
    owner = plugin if inspect.isclass(plugin) else type(plugin)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", owner.__name__).lower()


def place_of(plugin: object) -> str:
    """Say where a plugin is defined, as "module:name"."""
    if isinstance(plugin, ModuleType):
        return plugin.__name__
    if isinstance(plugin, _FunctionPlugin):
        return plugin.place
    return f"{type(plugin).__module__}:{type(plugin).__qualname__}"


def function_plugin(
    function: Function, hook: str | None = None, *, stage: Stage | None = None
) -> object:
    """Make a plugin named "module.function" of one function without `self`.

    The function's name is the hook's, unless `hook` says another. What is wrong with it is said
    when the plugin is registered.
    """
    return _FunctionPlugin(function, hook or function.__name__, stage)


class _FunctionPlugin:
    """A plugin of one function, kept as the attribute that has the hook's name."""

    def __init__(self, function: Function, hook: str, stage: Stage | None) -> None:
        self.place = f"{function.__module__}:{function.__qualname__}"
        self.name = f"{function.__module__}.{function.__name__}"
        self.stage = stage
        if not hasattr(function, "kafkaesk_impl"):
            hookimpl(function)
        setattr(self, hook, function)

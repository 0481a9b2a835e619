"""Loads the installed plugins that the environment chooses, with or without an application."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kafkaesk_core.environment import PREFIX, read_model

from .loading import warn_of_unread
from .manager import Plugins

__all__ = [
    "InstalledPlugins",
    "PluginChoice",
    "load_installed",
    "publish_chain",
    "read_plugin_choice",
]


class PluginChoice(BaseModel):
    """The choice of installed plugins, and their order, from the environment."""

    model_config = ConfigDict(frozen=True)

    plugins: tuple[str, ...] | None = Field(
        None, description="Load these installed plugins and no others."
    )
    disable_plugins: tuple[str, ...] = Field((), description="Do not load these plugins.")
    plugin_order: tuple[str, ...] | None = Field(
        None, description="The order of plugins, outermost first, in place of `plugin_order`."
    )
    debug_hooks: bool = Field(
        False, description="Log what each layer does to a message, and how long it takes."
    )


def read_plugin_choice() -> PluginChoice:
    """Read the choice of plugins from the environment.

    Raises:
        ConfigurationError: a variable is not a list of names; the error names it.
    """
    return PluginChoice(**read_model(PluginChoice))


def load_installed(
    plugins: Plugins,
    *,
    disabled: Collection[str] = frozenset(),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    entry_points: bool = True,
) -> None:
    """Load the installed plugins, and log the KAFKAESK_ variables that nothing reads.

    `disabled` and `settings` are those of the application; without `entry_points` nothing is
    loaded.

    Raises:
        ConfigurationError: a variable is not a list of names.
        PluginError: a plugin cannot be loaded; the error says how to start without it.
    """
    choice = read_plugin_choice()
    if choice.debug_hooks:
        plugins.log_layers()
    if entry_points:
        plugins.load_entry_points(
            allow=choice.plugins,
            disabled=frozenset(disabled).union(choice.disable_plugins),
            settings=settings,
        )
    warn_of_unread(_list_variables, plugins, os.environ)


def _list_variables() -> set[str]:
    """Return the names of all environment variables that the core reads."""
    from kafkaesk_core.settings import Settings

    names = (
        *Settings.model_fields,
        *PluginChoice.model_fields,
        "log_level",
        "log_format",
        "gc_thresholds",
    )
    return {f"{PREFIX}{name.upper()}" for name in names}


def publish_chain(plugins: Plugins) -> list[str]:
    """Return the layers around publishing, outermost first."""
    late = plugins.of_stage("deliver")
    layers = plugins.layers("wrap_publish")
    before = [name for name in layers if name not in late]
    behind = [name for name in layers if name in late]
    return [*before, "encode", *behind, "send"]


class InstalledPlugins:
    """The installed plugins of an application that has no plugins and settings of its own.

    The methods are those of `Application`, whose import takes longer than that of all plugins.
    """

    def __init__(self) -> None:
        self.plugins = Plugins(order=read_plugin_choice().plugin_order or ())

    def load_plugins(self) -> None:
        """Load the plugins.

        Raises:
            PluginError: a plugin cannot be loaded; the error says how to start without it.
        """
        load_installed(self.plugins)

    def chains(self) -> dict[str, list[str]]:
        """The layers around publishing, outermost first."""
        return {"wrap_publish": publish_chain(self.plugins)}

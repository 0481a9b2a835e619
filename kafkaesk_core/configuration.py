"""How an application is configured: settings, plugins, and in which order they act."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from .binding import takes_batches
from .errors import ConfigurationError
from .plugins.registry import Plugins, function_plugin
from .plugins.variables import warn_of_unread
from .router import Router
from .settings import (
    Settings,
    Tuning,
    checked,
    known_variables,
    listed,
    merged_settings,
    taken_over,
)

__all__ = ["Configuration"]

F = TypeVar("F", bound=Callable[..., Any])


class Configuration(Router):
    """What an application is configured with, beside what a router declares.

    `plugins` are added to the installed ones, which `entry_points=False` leaves out;
    `plugin_settings` has a mapping per plugin's name. The other settings, their defaults and
    their environment names are those of `Settings`.

    Raises:
        ConfigurationError: a name, a type or a value is wrong.
        PluginError: a plugin breaks its contract.
    """

    def __init__(
        self,
        kafka_servers: Sequence[str] | str | None = None,
        topic_prefix: str = "",
        kafka_settings: Mapping[str, Any] | None = None,
        replication_factor: int | None = None,
        kafka_api_version: str = "auto",
        auto_commit: bool = True,
        auto_commit_interval_ms: int = 5000,
        *,
        plugins: Sequence[object] = (),
        disable_plugins: Iterable[str] = (),
        plugin_order: Sequence[str] = (),
        plugin_settings: Mapping[str, Mapping[str, Any]] | None = None,
        entry_points: bool = True,
        **tuning: Unpack[Tuning],
    ) -> None:
        super().__init__()
        _check_plugin_arguments(plugins, plugin_settings, entry_points)
        self._disabled_plugins = frozenset(_names("disable_plugins", disable_plugins))
        configured_order = _names("plugin_order", plugin_order)
        self._configured: dict[str, Any] = {}
        self._overrides: dict[str, Any] = {}
        self.configure(
            kafka_servers,
            topic_prefix,
            kafka_settings,
            replication_factor,
            kafka_api_version,
            auto_commit,
            auto_commit_interval_ms,
            **tuning,
        )
        order = listed("KAFKAESK_PLUGIN_ORDER")
        self.plugins = Plugins(
            order=configured_order if order is None else order, on_change=self._plugins_changed
        )
        self._plugin_settings = plugin_settings or {}
        self._loads_entry_points = entry_points
        for plugin in plugins:
            self.plugins.register(plugin)

    def configure(
        self,
        kafka_servers: Sequence[str] | str | None = None,
        topic_prefix: str | None = None,
        kafka_settings: Mapping[str, Any] | None = None,
        replication_factor: int | None = None,
        kafka_api_version: str | None = None,
        auto_commit: bool | None = None,
        auto_commit_interval_ms: int | None = None,
        **tuning: Unpack[Tuning],
    ) -> None:
        """Change settings; what is left out, or None, stays as it is.

        Raises:
            ConfigurationError: a name, a type or a value is wrong.
            NotRunningError: the application runs already.
        """
        self._check_stopped()
        given = {
            "kafka_servers": kafka_servers,
            "topic_prefix": topic_prefix,
            "kafka_settings": kafka_settings,
            "replication_factor": replication_factor,
            "kafka_api_version": kafka_api_version,
            "auto_commit": auto_commit,
            "auto_commit_interval_ms": auto_commit_interval_ms,
            **tuning,
        }
        changed = {name: v for name, v in taken_over(given).items() if v is not None}
        merged = {**self._configured, **changed}
        checked(merged)
        self._configured = merged

    def override(self, **settings: Any) -> None:
        """Change settings as the command line does: above the environment too.

        Raises:
            ConfigurationError: a name, a type or a value is wrong.
        """
        given = {name: v for name, v in taken_over(settings).items() if v is not None}
        checked({**self._configured, **given})
        self._overrides.update(given)

    @property
    def settings(self) -> Settings:
        """The merged settings: what overrides, over the environment, over what was configured."""
        return merged_settings(self._configured, overrides=self._overrides)

    @property
    def is_configured(self) -> bool:
        """Whether the application knows any Kafka servers."""
        return bool(self.settings.kafka_servers)

    @property
    def claimed_headers(self) -> frozenset[str]:
        """Header names that plugins own."""
        return self.plugins.claimed_headers

    def hook(self, func: F) -> F:
        """Register one function of the service as a hook; its name is the hook's."""
        self.plugins.register(function_plugin(func))
        return func

    def load_plugins(self) -> None:
        """Load the installed plugins, as a start does.

        Raises:
            PluginError: one cannot be loaded; the message says how to go on without it.
        """
        if self._loads_entry_points:
            allow = listed("KAFKAESK_PLUGINS")
            self.plugins.load_entry_points(
                allow=None if allow is None else frozenset(allow),
                disabled=self._disabled_plugins | set(listed("KAFKAESK_DISABLE_PLUGINS") or ()),
                settings=self._plugin_settings,
            )
        warn_of_unread(known_variables(), self.plugins, os.environ)

    def chains(self) -> dict[str, list[str]]:
        """The layers of publishing, and of each subscription, outermost first."""
        found = {"wrap_publish": [*self.plugins.layers("wrap_publish"), "encode", "send"]}
        for subscription in self._subscriptions:
            hook = "wrap_consume_batch" if takes_batches(subscription) else "wrap_consume"
            layers = self.plugins.layers(hook, subscription.skip_plugins)
            name = f"{hook} ({subscription.group})"
            found[name] = [*layers, "decode", subscription.handler_name]
        return found

    def _plugins_changed(self) -> None:
        """A plugin was registered or taken away: what was compiled is out of date."""

    def _check_stopped(self) -> None:
        """Refuse to be configured while running."""


def _check_plugin_arguments(plugins: object, settings: object, entry_points: object) -> None:
    if isinstance(plugins, (str, bytes, Mapping)) or not isinstance(plugins, Iterable):
        raise ConfigurationError(f"plugins= takes a list of plugin instances, got {_told(plugins)}")
    given = {} if settings is None else settings
    values = list(given.values()) if isinstance(given, Mapping) else [given]
    if odd := [value for value in values if not isinstance(value, Mapping)]:
        raise ConfigurationError(
            "plugin_settings= takes a mapping of settings for each plugin's name, as in "
            f"{{'audit': {{'level': 'info'}}}}, got {type(odd[0]).__name__}"
        )
    if not isinstance(entry_points, bool):
        raise ConfigurationError(f"entry_points= takes True or False, got {entry_points!r}")


def _names(argument: str, given: Iterable[str]) -> tuple[str, ...]:
    is_several = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
    names = tuple(given) if is_several else (None,)
    if not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{argument}= takes a list of names, got {_told(given)}")
    return tuple(str(name) for name in names)


def _told(value: object) -> str:
    return f"the string {value!r}" if isinstance(value, str) else f"{value!r}"

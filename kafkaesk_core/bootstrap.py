"""The brokers' addresses: as configured, or those that a URL such as `embedded://` stands for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .entry_points import (
    BOOTSTRAP,
    describe_rivals,
    find_entry_points,
    load_entry_point,
    package_of,
)
from .errors import ConfigurationError
from .settings import Settings

__all__ = ["Bootstrap", "open_bootstrap"]

KNOWN = {"embedded": "kafkaesk-testing"}
"""Schemes, with the packages known to provide them."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The brokers' addresses, and whether the cluster lets clients create topics.

    `servers` are "host:port". `kafka_settings` are this cluster's defaults; the service's settings
    take precedence.
    """

    servers: tuple[str, ...]
    can_create_topics: bool = True
    kafka_settings: Mapping[str, Any] = field(default_factory=dict)


Factory = Callable[[str, Settings], AbstractAsyncContextManager[Bootstrap]]


@asynccontextmanager
async def open_bootstrap(settings: Settings) -> AsyncIterator[Bootstrap]:
    """Provide the brokers of checked settings; a URL is opened by the entry point of its scheme.

    Raises:
        ConfigurationError: no installed package provides the scheme, several do, or its package
            cannot be loaded.
    """
    server = settings.kafka_servers[0]
    if "://" not in server:
        yield Bootstrap(settings.kafka_servers)
        return
    async with _find_factory(server)(server, settings) as bootstrap:
        yield bootstrap


def _find_factory(url: str) -> Factory:
    scheme = url.partition("://")[0]
    found = find_entry_points(BOOTSTRAP, scheme)
    if not found:
        installed = ", ".join(f"{one.name}://" for one in find_entry_points(BOOTSTRAP))
        package = KNOWN.get(scheme)
        remedy = f"pip install {package}" if package else "write addresses as host:port"
        raise ConfigurationError(
            f"no installed package provides the scheme of {url!r} "
            f"(installed: {installed or 'none'}); {remedy}"
        )
    if rivals := describe_rivals(found):
        raise ConfigurationError(f"the scheme {scheme}:// {rivals}")
    try:
        factory: Factory = load_entry_point(found[0])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, for one: the package's code ran
        package = " ".join(package_of(found[0]))
        raise ConfigurationError(
            f"the package {package}, which provides {scheme}://, cannot be loaded: "
            f"{type(error).__name__}: {error}; repair or uninstall it"
        ) from error
    return factory

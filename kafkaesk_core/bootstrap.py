"""Where the brokers are: addresses as they are given, or a scheme such as `embedded://`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from .errors import ConfigurationError
from .settings import Settings

__all__ = ["Bootstrap", "opened"]

GROUP = "kafkaesk.bootstrap"
KNOWN = {"embedded": "kafkaesk-testing"}
"""Schemes and the packages that are known to bring them."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Addresses of brokers ("host:port"), and whether the cluster lets us create topics.

    `kafka_settings` are what suits this cluster; what the service sets wins over them.
    """

    servers: tuple[str, ...]
    can_create_topics: bool = True
    kafka_settings: Mapping[str, Any] = field(default_factory=dict)


Factory = Callable[[str, Settings], AbstractAsyncContextManager[Bootstrap]]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Bootstrap]:
    """Keep the brokers of `kafka_servers` at hand; an entry point of its scheme brings them.

    Raises:
        ConfigurationError: an address is no "host:port", or nothing provides the scheme.
    """
    servers = settings.kafka_servers
    urls = [server for server in servers if "://" in server]
    if not urls:
        _check_addresses(servers)
        yield Bootstrap(servers)
        return
    if len(servers) > 1:
        raise ConfigurationError(
            f"kafka_servers mixes the URL {urls[0]!r} with {len(servers) - 1} other addresses; "
            "give one URL, or addresses as host:port"
        )
    async with _factory(urls[0])(urls[0], settings) as bootstrap:
        yield bootstrap


def _check_addresses(servers: Sequence[str]) -> None:
    for server in servers:
        host, _, port = server.rpartition(":")
        is_host = bool(host) and not any(c in "/ " or not c.isprintable() for c in host)
        if not is_host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigurationError(
                f"kafka_servers has {server!r}, which is not an address; write host:port, "
                "as in localhost:9092"
            )


def _factory(url: str) -> Factory:
    scheme = url.partition("://")[0]
    found = tuple(entry_points(group=GROUP, name=scheme))
    if not found:
        installed = ", ".join(sorted(f"{ep.name}://" for ep in entry_points(group=GROUP)))
        package = KNOWN.get(scheme)
        remedy = f"pip install {package}" if package else "write addresses as host:port"
        raise ConfigurationError(
            f"nothing installed provides the scheme of {url!r} "
            f"(installed: {installed or 'none'}); {remedy}"
        )
    factory: Factory = found[0].load()
    return factory

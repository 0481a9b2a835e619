"""The plugin: an endpoint that answers from before the start until after the stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from kafkaesk_core import hookimpl

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector as BaseCollector

    from kafkaesk_core import Application

    from .metrics import Collector
    from .server import ProbeServer

__all__ = ["Ops", "OpsPlugin", "OpsSettings"]


class OpsSettings(BaseModel):
    """Settings of the plugin, from the environment as KAFKAESK_OPS_<NAME>."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int | None = Field(
        None, ge=0, le=65535, description="Port to listen on; without it nothing listens."
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    histograms: bool = Field(
        False, description="Also measure handlers, deliveries and the age of messages, one by one."
    )
    legacy_names: bool = Field(
        False, description="Also kafkaesk 0.8's names; those of messages only with histograms."
    )


class OpsPlugin:
    """Serves the probes, status and metrics of an application on its own port.

    `/metrics` shows `registry`; the default registry has only this application's metrics. The
    registry gets them through `collector`. Several applications may share one collector; then each
    needs a `name`.
    """

    name = "ops"
    Settings = OpsSettings
    starts_early = True

    def __init__(
        self,
        settings: OpsSettings | None = None,
        *,
        registry: CollectorRegistry | None = None,
        collector: Collector | None = None,
        name: str = "",
    ) -> None:
        self.settings = settings or OpsSettings()
        self._registry = registry
        self._collector = collector
        self._name = name
        self._server: ProbeServer | None = None
        _check_installed("prometheus_client", "h11")

    @property
    def registry(self) -> CollectorRegistry:
        """The registry that `/metrics` shows."""
        if self._registry is None:
            from prometheus_client import CollectorRegistry

            self._registry = CollectorRegistry()
        return self._registry

    @property
    def port(self) -> int | None:
        """The port of the server; None if the server is not listening."""
        return None if self._server is None else self._server.port

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Application) -> AsyncIterator[None]:
        """Listen while the application starts, runs and stops."""
        from .metrics import Collector

        measuring = self._measuring(app)
        if self._collector is None:
            self._collector = Collector(self.registry)
        self._collector.watch(app, self._name, measuring.values())
        for name, each in measuring.items():
            app.plugins.register(each, name, source="kafkaesk-ops")
        try:
            if self.settings.port is None:
                yield
                return
            from .endpoint import Endpoint
            from .server import ProbeServer

            endpoint = Endpoint(app, self.registry)
            server = ProbeServer(endpoint, self.settings.host, self.settings.port)
            await server.start()
            self._server = server
            try:
                yield
            finally:
                self._server = None
                await server.stop()
        finally:
            for name in measuring:
                app.plugins.unregister(name)
            self._collector.forget(self._name)

    def _measuring(self, app: Application) -> dict[str, BaseCollector]:
        """Make the plugins that measure what the status does not have, by their names."""
        from .histograms import Histograms
        from .legacy import LegacyGroups, LegacyMessages

        found: dict[str, BaseCollector] = {}
        if self.settings.histograms:
            found["ops-histograms"] = Histograms(self._name)
        if self.settings.legacy_names:
            found["ops-legacy"] = LegacyGroups(app, self._name)
            if self.settings.histograms:
                found["ops-legacy-messages"] = LegacyMessages(self._name)
        return found


def _check_installed(*modules: str) -> None:
    """Refuse to be loaded without these modules, which are imported at the start."""
    for name in modules:
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"kafkaesk-ops needs {name}, which is not installed; run: "
                "pip install --force-reinstall kafkaesk-ops",
                name=name,
            )


Ops = OpsPlugin
"""A short name of the same class."""

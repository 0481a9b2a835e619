"""The plugin: it claims the option of schemas, and hands upcasters to the handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kafkaesk_core import (
    App,
    Router,
    SchemaCall,
    SchemaRegistration,
    Subscription,
    hookimpl,
)

from .review import OPTION, check_mode
from .settings import SchemasSettings
from .upcasting import Upcasters, chains_to, check_targets, upcasters_of

__all__ = ["SchemasPlugin"]


class SchemasPlugin:
    """Checks the options of schemas, and brings records of older versions up to date."""

    name = OPTION
    claimed_options = frozenset({OPTION})
    Settings = SchemasSettings

    def __init__(self, settings: SchemasSettings | None = None) -> None:
        self.settings = settings or SchemasSettings()
        self._upcasters: Upcasters = {}

    @hookimpl
    async def wrap_schema(self, schema: SchemaRegistration, call_next: SchemaCall) -> None:
        """Refuse an option that is none, at the start."""
        if OPTION in schema.options:
            check_mode(schema.options[OPTION], schema.key)
        await call_next(schema)

    @hookimpl
    def declare(self, router: Router, app: App) -> None:
        """Read the upcasters of the service, and refuse those that lead nowhere."""
        self._upcasters = upcasters_of(app) if isinstance(app, Router) else {}
        versions: dict[str, list[int]] = {}
        for schema in app.schemas.values():
            versions.setdefault(schema.id, []).append(schema.version)
        check_targets(self._upcasters, versions)

    @hookimpl
    def upcasters(
        self, schema: SchemaRegistration, subscription: Subscription
    ) -> Mapping[str, Callable[[Any], Any]]:  # the data of messages, any JSON
        """Bring records of older versions up to date for the handlers of this one."""
        chains = chains_to(self._upcasters, schema.id, schema.version)
        return {f"{schema.id}:{version}": chain.convert for version, chain in chains.items()}

"""The plugin: claims the option of schemas, and provides upcasters to handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kafkaesk_core import hookimpl

from .modes import OPTION, check_mode
from .settings import SchemasSettings

if TYPE_CHECKING:
    from kafkaesk_core import (
        App,
        Router,
        SchemaCall,
        SchemaRegistration,
        Subscription,
    )

    from .upcasting import Upcasters

__all__ = ["SchemasPlugin"]

logger = logging.getLogger("kafkaesk.schemas")


class SchemasPlugin:
    """Checks the options of schemas, and upgrades records of older versions."""

    name = OPTION
    claimed_options = frozenset({OPTION})
    Settings = SchemasSettings

    def __init__(self, settings: SchemasSettings | None = None) -> None:
        self.settings = settings or SchemasSettings()
        self._upcasters: Upcasters = {}
        self._registry = self.settings.registry()
        self._is_registry_down = False

    @hookimpl
    async def wrap_schema(self, schema: SchemaRegistration, call_next: SchemaCall) -> None:
        """Refuse an invalid option, and register the schema, at the start."""
        if OPTION in schema.options:
            check_mode(schema.options[OPTION], schema.key)
        await self._register(schema)
        await call_next(schema)

    async def _register(self, schema: SchemaRegistration) -> None:
        """Register a schema; ask a registry that is down only once, not for every schema."""
        registry = self._registry
        if registry is None or self._is_registry_down:
            return
        from .contract import contract_of
        from .registry import RegistryDownError

        contract = contract_of(schema)
        try:
            number = await asyncio.to_thread(registry.register, contract)
        except RegistryDownError as error:
            if self.settings.registry_required:
                raise
            self._is_registry_down = True
            logger.warning(
                "schema %s and those after it are not registered: %s; the application starts "
                "without, and the next start tries again",
                schema.key,
                error,
            )
        else:
            subject = registry.subject_of(contract)
            logger.info("schema %s is registered as %s, id %d", schema.key, subject, number)

    @hookimpl
    def declare(self, router: Router, app: App) -> None:
        """Read the upcasters of the service, and refuse those without a target version."""
        from kafkaesk_core import Router

        from .upcasting import check_targets, upcasters_of

        self._is_registry_down = False  # an application may start again
        self._upcasters = upcasters_of(app) if isinstance(app, Router) else {}
        check_targets(self._upcasters, app.schemas.values())

    @hookimpl
    def upcasters(
        self, schema: SchemaRegistration, subscription: Subscription
    ) -> Mapping[str, Callable[[Any], Any]]:  # the data of messages, any JSON
        """Return functions that upgrade records of older versions for handlers of this one."""
        from .upcasting import chains_to

        chains = chains_to(self._upcasters, schema.id, schema.version)
        return {f"{schema.id}:{version}": chain.convert for version, chain in chains.items()}

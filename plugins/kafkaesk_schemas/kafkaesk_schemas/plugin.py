"""The plugin: it claims the option of schemas, and hands upcasters to the handlers."""

from __future__ import annotations

from kafkaesk_core import SchemaCall, SchemaRegistration, hookimpl

from .review import OPTION, check_mode
from .settings import SchemasSettings

__all__ = ["SchemasPlugin"]


class SchemasPlugin:
    """Checks the options of schemas, and brings records of older versions up to date."""

    name = OPTION
    claimed_options = frozenset({OPTION})
    Settings = SchemasSettings

    def __init__(self, settings: SchemasSettings | None = None) -> None:
        self.settings = settings or SchemasSettings()

    @hookimpl
    async def wrap_schema(self, schema: SchemaRegistration, call_next: SchemaCall) -> None:
        """Refuse an option that is none, at the start."""
        if OPTION in schema.options:
            check_mode(schema.options[OPTION], schema.key)
        await call_next(schema)

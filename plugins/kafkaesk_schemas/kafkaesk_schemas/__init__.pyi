"""Contracts for kafkaesk: frozen schemas, compatibility with reasons, upcasting."""

from .plugin import SchemasPlugin
from .settings import SchemasSettings
from .upcasting import upcast

__all__ = [
    "SchemasPlugin",
    "SchemasSettings",
    "upcast",
]

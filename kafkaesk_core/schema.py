"""Schemas of messages: registration, the envelope, validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

__all__ = ["SchemaRegistration"]


@dataclass(frozen=True, slots=True, eq=False)
class SchemaRegistration:
    """One version of a schema: a pydantic model or a JSON Schema document.

    `retention` is in seconds. `streams` are the streams whose topics are created at start.
    """

    id: str
    version: int = 1
    model: type[BaseModel] | None = None
    document: Mapping[str, Any] | None = None
    retention: int | None = None
    streams: tuple[str, ...] = ()
    partitions: int | None = field(default=None, kw_only=True)
    replication_factor: int | None = field(default=None, kw_only=True)

    @property
    def key(self) -> str:
        """The name on the wire: "Content:1"."""
        return f"{self.id}:{self.version}"

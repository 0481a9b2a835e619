"""The settings of the plugin, from the environment as KAFKAESK_SCHEMAS_<NAME>."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .review import Mode

__all__ = ["SchemasSettings"]


class SchemasSettings(BaseModel):
    """What holds for every schema that says nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compatibility: Mode = Field(
        "backward", description="Who must understand whom: one of the modes above."
    )

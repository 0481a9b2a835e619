"""The settings of the plugin, from the environment as KAFKAESK_SCHEMAS_<NAME>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from .modes import Mode

if TYPE_CHECKING:
    from .registry import Registry

__all__ = ["SchemasSettings"]


class SchemasSettings(BaseModel):
    """The defaults for every schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compatibility: Mode = Field(
        "backward", description="The required compatibility: one of the modes above."
    )
    registry_url: str = Field(
        "", description="A registry with Confluent's API; each schema is registered at the start."
    )
    registry_credentials: SecretStr = Field(
        SecretStr(""),
        description="`user:password` for the registry.",
        json_schema_extra={"default": "none"},
    )
    registry_subject: str = Field(
        "{name}", description="The subject of a schema; `{name}-{version}` is one per version."
    )
    registry_required: bool = Field(
        False, description="A registry that does not answer stops the start."
    )

    @field_validator("registry_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not url:
            return ""
        from .registry import check_url

        return check_url(url)

    @field_validator("registry_subject")
    @classmethod
    def _check_subject(cls, template: str) -> str:
        from .registry import check_subject

        return check_subject(template)

    def registry(self) -> Registry | None:
        """The registry; None if none is configured."""
        if not self.registry_url:
            return None
        from .registry import Registry

        return Registry(
            self.registry_url,
            subject=self.registry_subject,
            credentials=self.registry_credentials.get_secret_value(),
        )

"""What environment variables say of settings."""

from __future__ import annotations

from typing import Annotated, Any, Optional

from pydantic import BaseModel, create_model
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["environment_of"]


def environment_of(settings: type[BaseModel], prefix: str) -> dict[str, Any]:
    """Return the values of the variables "<prefix><FIELD>" that are set; lists of servers as text.

    Raises:
        Exception: a value has the wrong type, or is no JSON where JSON is expected.
    """
    fields: dict[str, Any] = {
        name: (Optional[field.annotation], None)  # noqa: UP045 - a type made at run time
        for name, field in settings.model_fields.items()
    }
    fields["kafka_servers"] = (Annotated[str | None, NoDecode], None)

    class Environment(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=prefix, extra="ignore", hide_input_in_errors=True
        )

    model = create_model("Environment", __base__=Environment, **fields)
    return model().model_dump(exclude_none=True)

"""Settings of the plugin, from the environment as KAFKAESK_OTEL_<NAME>."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["OTelSettings"]

Name = Annotated[str, Field(min_length=1)]


class OTelSettings(BaseModel):
    """What the README's table says; the standard variables OTEL_* hold beside these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process_parent: Literal["creation", "ambient", "root"] = "creation"
    settle_spans: Literal["manual", "all", "off"] = "manual"
    propagate_producer: bool = True
    exclude_topics: tuple[Name, ...] = ()
    destination_templates: dict[Name, Name] = Field(default_factory=dict)
    server_address: Name | None = None
    capture_key: bool = True
    capture_headers: tuple[Name, ...] = ()
    capture_body_size: bool = False
    conversation_id_header: Name | None = None
    message_id_header: Name | None = None
    metrics: bool = True
    metrics_partition: bool = True
    lag_interval: Annotated[float, Field(gt=0)] = 10.0

    @field_validator("server_address")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        if value is not None and not value.rpartition(":")[2].isdigit():
            raise ValueError("write host:port, an IPv6 address as [address]:port")
        return value

"""Settings of the plugin, from the environment as KAFKAESK_OTEL_<NAME>."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["OTelSettings"]

Name = Annotated[str, Field(min_length=1)]


class OTelSettings(BaseModel):
    """Settings of the plugin; the standard variables OTEL_* also apply."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process_parent: Literal["creation", "ambient", "root"] = Field(
        "creation", description="the parent of process spans, see 6"
    )
    settle_spans: Literal["manual", "all", "off"] = Field(
        "manual",
        description="commits that get a span: `manual`, `all` or `off`; all commits are measured",
    )
    propagate_producer: bool = Field(True, description="false: no headers are written")
    exclude_topics: tuple[Name, ...] = Field(
        (), description="patterns (fnmatch) of topics that are neither traced nor measured"
    )
    destination_templates: dict[Name, Name] = Field(
        default_factory=dict, description='from pattern to name: `{"tenant-*": "tenant-{id}"}`'
    )
    server_address: Name | None = Field(
        None,
        description="the `host:port` to show",
        json_schema_extra={"default": "the first broker"},
    )
    capture_key: bool = Field(
        True,
        description="false if keys are personal data; only text is shown, cut at 256 characters",
    )
    capture_headers: tuple[Name, ...] = Field(
        (), description="headers shown as `messaging.header.<name>`"
    )
    capture_body_size: bool = Field(False, description="whether the size of values is shown")
    conversation_id_header: Name | None = Field(
        None, description="header shown as `messaging.message.conversation_id`"
    )
    message_id_header: Name | None = Field(
        None, description="header shown as `messaging.message.id`"
    )
    metrics: bool = Field(True, description="whether metrics are recorded")
    metrics_partition: bool = Field(
        True, description="whether metrics have the partition as an attribute"
    )
    lag_interval: Annotated[float, Field(gt=0)] = Field(
        10.0, description="seconds between two readings of the lag"
    )

    @field_validator("server_address")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        if value is not None and not value.rpartition(":")[2].isdigit():
            raise ValueError("write host:port, an IPv6 address as [address]:port")
        return value

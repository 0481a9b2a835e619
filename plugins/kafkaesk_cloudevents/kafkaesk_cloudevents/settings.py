"""The settings of the plugin, from the environment as KAFKAESK_CLOUDEVENTS_<NAME>."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .event import problem_of_attribute
from .type_names import TypeTemplate

__all__ = ["CloudEventsSettings"]


class CloudEventsSettings(BaseModel):
    """The streams that carry CloudEvents, and the values of attributes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="streams whose records are CloudEvents: fnmatch patterns"
    )
    source: str = Field(
        "", description="`ce_source` of what is published, a URI or a path: `/shop`; required"
    )
    type: str = Field(
        "{name}.v{version}",
        description="`ce_type` of a schema, as `com.example.{name}.v{version}`",
    )
    also_envelopes: bool = Field(
        False, description="records without attributes are read as envelopes, while a topic moves"
    )

    @field_validator("type")
    @classmethod
    def _check_type(cls, text: str) -> str:
        TypeTemplate(text)
        return text

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.streams and not self.source:
            raise ValueError(
                f"streams names {', '.join(self.streams)}, and source is empty; name this "
                "service, as in KAFKAESK_CLOUDEVENTS_SOURCE=/shop"
            )
        if self.source and (problem := problem_of_attribute("source", self.source)):
            raise ValueError(problem)
        return self

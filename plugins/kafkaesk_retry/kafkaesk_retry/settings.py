"""The settings of the plugin, from the environment as KAFKAESK_RETRY_<NAME>."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RetrySettings"]

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0, allow_inf_nan=False)]
DAY = 24 * 3600


class RetrySettings(BaseModel):
    """The defaults for every handler; times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: Count = Field(5, description="calls of the handler, the first one included")
    first: Pause = Field(
        0.5, description="seconds: the longest pause after the first attempt; each one is random"
    )
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        2.0, description="the factor by which each next pause may be longer"
    )
    most: Pause = Field(30.0, description="seconds: the longest pause of all")
    dead_letter: bool = Field(
        True, description="if false, the subscription's `on_error` decides after the last attempt"
    )
    bisect: bool = Field(
        True,
        description="a failed batch is handled in parts to find the failing messages; false if a "
        "part must not be handled alone",
    )
    dead_limit: Annotated[int, Field(ge=0)] = Field(
        20,
        description="this many dead letters in `dead_window`, or half of the last 100 records, "
        "open the breaker; 0: never",
    )
    dead_window: Seconds = Field(60.0, description="seconds in which `dead_limit` is counted")
    probe: Seconds = Field(
        5.0, description="seconds between the records that are tried while the breaker is open"
    )
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]+$")] = Field(
        "dlq.", description="the prefix of the streams of dead letters"
    )
    retention: Annotated[int, Field(gt=0)] = Field(
        30 * DAY,
        description="seconds: the retention of new topics of dead letters",
        json_schema_extra={"default": "30 days"},
    )
    count_interval: Pause = Field(
        60.0,
        description="seconds between two counts of the open dead letters; 0: no counts",
    )
    stacktrace_bytes: Annotated[int, Field(ge=0)] = Field(
        8192, description="bytes: the part of the traceback that is kept, from its end"
    )
    style: Literal["kafka", "spring"] = Field(
        "kafka", description="or `spring`: Spring's names and types of headers"
    )

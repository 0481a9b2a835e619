"""The settings of the plugin, from the environment as KAFKAESK_RETRY_<NAME>."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RetrySettings"]

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
DAY = 24 * 3600


class RetrySettings(BaseModel):
    """What holds for every handler that says nothing else; times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: Count = 5
    first: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    most: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    dead_letter: bool = True
    bisect: bool = True
    dead_limit: Annotated[int, Field(ge=0)] = 20
    dead_window: Seconds = 60.0
    probe: Seconds = 5.0
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]+$")] = "dlq."
    retention: Annotated[int, Field(gt=0)] = 30 * DAY
    stacktrace_bytes: Annotated[int, Field(ge=0)] = 8192
    style: Literal["kafka", "spring"] = "kafka"

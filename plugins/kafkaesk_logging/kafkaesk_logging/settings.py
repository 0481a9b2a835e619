"""The options of a handler, and the settings of the plugin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kafkaesk_core import ConfigurationError

__all__ = ["LineOptions", "LoggingSettings", "Options", "QueueOptions", "read_options"]

M = TypeVar("M", bound=BaseModel)
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Key = Literal["hostname", "logger"] | Callable[[logging.LogRecord], bytes | None] | None
ContextProvider = Callable[[], Mapping[str, Any]]  # Any: fields are of any type


def _split(value: object) -> object:
    """Split names at commas, as in environment variables."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _to_number(value: object) -> object:
    """Convert a level's name, such as INFO, to its number."""
    if isinstance(value, str) and not value.strip().lstrip("-").isdigit():
        number = logging.getLevelName(value.strip().upper())
        return number if isinstance(number, int) else value
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Level = Annotated[int, BeforeValidator(_to_number)]


def _option(
    default: Any, description: str, shown: str | None = None
) -> Any:  # Any: as Field has it
    """Declare an option; `shown` is its default in the README if that is not obvious."""
    extra: Any = None if shown is None else {"default": shown}
    return Field(default, description=description, json_schema_extra=extra)


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True
    )


class QueueOptions(_Frozen):
    """The options for queueing and sending lines. Times are in seconds, sizes in bytes."""

    queue_size: Count = _option(10_000, "Lines that may wait.")
    max_bytes: Count = _option(32 * 1024 * 1024, "Bytes that may wait.", "32 MiB")
    drop_policy: Literal["drop_oldest", "drop_newest", "block"] = _option(
        "drop_oldest",
        "What a full queue drops: `drop_oldest`, `drop_newest`, or `block`: the caller waits for "
        "`block_timeout`, never on the event loop, and then the newest line is dropped.",
    )
    block_timeout: Seconds = _option(0.1, "Seconds that a caller waits for room with `block`.")
    batch_size: Count = _option(500, "Lines taken from the queue at once.")
    max_in_flight: Count = _option(2000, "Lines sent and not yet acknowledged.")
    drain_timeout: Seconds = _option(5.0, "Seconds for delivery when the application stops.")
    flush_timeout: Seconds = _option(2.0, "Seconds that `Handler.flush` waits.")
    report_interval: Seconds = _option(
        30.0, "Seconds between two reports about lost lines on standard error."
    )
    fallback: Literal["stderr"] | None = _option(
        "stderr", "Where lines that cannot be delivered are shown: `stderr`, or nowhere (none)."
    )
    fallback_level: Level = _option(
        logging.WARNING, "The lowest level that the fallback shows.", "WARNING"
    )
    retention: Count | None = _option(
        None, "Seconds that a topic created for the stream keeps its lines.", "the broker's"
    )


class LineOptions(_Frozen):
    """The options for the content of a line."""

    max_record_bytes: Annotated[int, Field(ge=1000)] = _option(
        900_000, "A longer line is cut, and gets the field `truncated`."
    )
    exclude_loggers: Names = _option(
        ("aiokafka", "kafka", "kafkaesk.logging"), "These loggers and those below are not shipped."
    )
    key: Key = _option(
        None, "The messages' key: `hostname`, `logger`, or in code a function of the record."
    )
    redact: Names = _option(
        (
            *("password", "passwd", "secret", "token", "authorization", "api_key", "cookie"),
            *("access_token", "refresh_token"),
        ),
        "Fields whose values become stars, in any case of their letters.",
        "password, token, cookie and the like",
    )
    context_providers: tuple[ContextProvider, ...] = _option(
        (), "In code: functions that return more fields, called in the context of the log call."
    )
    include_record: bool = _option(True, "Add the place of the message that is being handled.")
    legacy_fields: bool = _option(
        False, "The fields of kafkaesk 0.8, where `trace` and `stack` are exchanged."
    )
    service: str | None = _option(
        None,
        "The name of the service.",
        "`OTEL_SERVICE_NAME`, or `service.name` in `OTEL_RESOURCE_ATTRIBUTES`",
    )


class Options(QueueOptions, LineOptions):
    """All options of a handler with its own queue."""


class LoggingSettings(Options):
    """The settings of the plugin, also read from the environment as KAFKAESK_LOGGING_*."""

    enabled: bool = _option(True, "Whether the plugin is active.")
    stream: str | None = _option(
        None, "The stream to ship to. Without one the plugin ships nothing."
    )
    level: Level | None = _option(
        None,
        "The lowest level that is shipped. It also becomes the loggers' level, unless they let "
        "through more already.",
        "all",
    )
    loggers: Names = _option((), "The loggers whose lines are shipped.", "the root logger")


def read_options(model: type[M], given: Mapping[str, Any], of: str) -> M:
    """Check options; `of` names the object that gets them.

    Raises:
        ConfigurationError: a name is unknown or a value is invalid.
    """
    for name in given.keys() - model.model_fields.keys():
        from difflib import get_close_matches

        close = get_close_matches(name, model.model_fields, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        known = ", ".join(model.model_fields)
        raise ConfigurationError(f"{of} has no option {name!r}{hint} (its options are {known})")
    try:
        return model(**given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(f"{of}: {problems}") from error

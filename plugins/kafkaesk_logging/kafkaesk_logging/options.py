"""How log records are shipped: what may be set, by arguments, dictConfig or the environment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kafkaesk_core import ConfigurationError

__all__ = ["Level", "LineOptions", "Names", "Options", "QueueOptions", "read_options"]

O = TypeVar("O", bound=BaseModel)  # noqa: E741 - options
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Key = Literal["hostname", "logger"] | Callable[[logging.LogRecord], bytes | None] | None
ContextProvider = Callable[[], Mapping[str, Any]]  # Any: whatever it knows


def _split(value: object) -> object:
    """Take names with commas between them, as environment variables have them."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _numbered(value: object) -> object:
    """Take a level by its name: INFO."""
    if isinstance(value, str) and not value.strip().lstrip("-").isdigit():
        number = logging.getLevelName(value.strip().upper())
        return number if isinstance(number, int) else value
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Level = Annotated[int, BeforeValidator(_numbered)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class QueueOptions(_Frozen):
    """Times in seconds, sizes in bytes.

    `drop_policy` says what goes when the queue is full: the oldest record, the newest, or nothing
    for `block_timeout` (off the application's event loop, while it runs) and then the newest.
    """

    queue_size: Count = 10_000
    max_bytes: Count = 32 * 1024 * 1024
    drop_policy: Literal["drop_oldest", "drop_newest", "block"] = "drop_oldest"
    block_timeout: Seconds = 0.1
    batch_size: Count = 500
    max_in_flight: Count = 2000
    drain_timeout: Seconds = 5.0
    flush_timeout: Seconds = 2.0
    report_interval: Seconds = 30.0
    fallback: Literal["stderr"] | None = "stderr"
    fallback_level: Level = logging.WARNING
    retention: Count | None = None


class LineOptions(_Frozen):
    """What a line on the stream has.

    `key` is the message's: the host's name, the logger's, or what a function makes of the record.
    `redact` names fields whose values are replaced by stars, whatever the case of their letters.
    `context_providers` are called in the thread and context of the log call; what they return are
    fields. `legacy_fields` gives the fields of kafkaesk 0.8 and no others.
    """

    max_record_bytes: Annotated[int, Field(ge=1000)] = 900_000
    exclude_loggers: Names = ("aiokafka", "kafka", "kafkaesk_logging")
    key: Key = None
    redact: Names = (
        *("password", "passwd", "secret", "token", "authorization", "api_key", "cookie"),
        *("access_token", "refresh_token"),
    )
    context_providers: tuple[ContextProvider, ...] = ()
    include_record: bool = True
    legacy_fields: bool = False
    service: str | None = None


class Options(QueueOptions, LineOptions):
    """All of them, as a handler with a queue of its own takes them."""


def read_options(model: type[O], given: Mapping[str, Any], of: str) -> O:
    """Check options.

    Raises:
        ConfigurationError: a name is unknown or a value is wrong; `of` says whose it is.
    """
    for name in given.keys() - model.model_fields.keys():
        close = get_close_matches(name, model.model_fields, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        known = ", ".join(model.model_fields)
        raise ConfigurationError(f"{of} has no option {name!r}{hint} (known are {known})")
    try:
        return model(**given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(f"{of}: {problems}") from error

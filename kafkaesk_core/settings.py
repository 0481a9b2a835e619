"""Typed settings: where they come from, and what must hold between them.

Precedence: command line > environment (`KAFKAESK_*`) > `configure` > constructor > default.
Relations between values are checked once, at start, on the merged result.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypedDict

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from .client_options import ClientOptions
from .errors import ConfigurationError, NotConfiguredError
from .topic_names import LONGEST, TOPIC_NAME_RULE, invalid_character

__all__ = [
    "Settings",
    "Tuning",
    "checked",
    "known_variables",
    "listed",
    "merged_settings",
    "taken_over",
]

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_TAKEN_OVER = {
    "auto_commit_interval_ms": "auto_commit_interval_ms",
    "api_version": "kafka_api_version",
}
"""Options of aiokafka that are settings of ours, with the same meaning (D26)."""


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


Seconds = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(gt=0)]
ENV_PREFIX = "KAFKAESK_"


class Tuning(TypedDict, total=False):
    """The keyword-only settings of `Application`; times in seconds, sizes in bytes."""

    create_topics: bool
    partitions: int
    validate_published: bool
    start_timeout: float
    shutdown_timeout: float
    drain_timeout: float
    cancel_grace: float
    commit_timeout: float
    delivery_timeout: float
    max_uncommitted: int
    max_record_age: float
    fetch_buffer_bytes: int
    send_buffer_bytes: int


class Settings(BaseModel):
    """All settings of an application; times in seconds unless the name ends in `_ms`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka_servers: tuple[str, ...] = ()
    topic_prefix: str = ""
    kafka_settings: dict[str, Any] = Field(default_factory=dict, repr=False)
    replication_factor: Count | None = None
    kafka_api_version: str = "auto"
    auto_commit: bool = True
    auto_commit_interval_ms: Count = 5000
    create_topics: bool = True
    partitions: Count = 7
    validate_published: bool = True
    start_timeout: Seconds = 30.0
    shutdown_timeout: Seconds = 25.0
    drain_timeout: Seconds = 15.0
    cancel_grace: Seconds = 2.0
    commit_timeout: Seconds = 5.0
    delivery_timeout: Seconds = 120.0
    max_uncommitted: Count = 10_000
    max_record_age: Seconds = 300.0
    fetch_buffer_bytes: Count = 32 * 1024 * 1024
    send_buffer_bytes: Count = 32 * 1024 * 1024

    @field_validator("kafka_servers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split addresses at commas; a URL, whose options may have commas, stays whole."""
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
            raise PydanticCustomError("servers", 'must be "host:port" or a list of them')
        texts = [[v] if _URL.match(v.strip()) else v.split(",") for v in values]
        return tuple(text.strip() for one in texts for text in one if text.strip())

    @field_validator("topic_prefix", mode="after")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        part = invalid_character(value)
        if part is not None or len(value) >= LONGEST:
            raise PydanticCustomError(
                "prefix", "cannot begin a topic; {rule}", {"rule": TOPIC_NAME_RULE}
            )
        return value

    @property
    def client(self) -> ClientOptions:
        """`kafka_settings`, checked and shared out to the clients."""
        return ClientOptions(self.kafka_settings)

    def over(self, kafka_settings: Mapping[str, Any]) -> Settings:
        """These settings, with others beneath their `kafka_settings`, checked."""
        if not kafka_settings:
            return self
        merged = {**kafka_settings, **self.kafka_settings}
        settings = self.model_copy(update={"kafka_settings": merged})
        settings.check()
        return settings

    def with_overrides(self, values: Mapping[str, Any]) -> Settings:
        """These settings with some others, checked.

        Raises:
            ConfigurationError: a value has the wrong type, or contradicts another.
        """
        if not values:
            return self
        settings = checked({**self.model_dump(exclude_unset=True), **values})
        settings.check()
        settings.check_handover()
        return settings

    def check(self) -> None:
        """Check what must hold between settings, also where nothing is consumed.

        Raises:
            NotConfiguredError: there are no servers.
            ConfigurationError: two settings contradict each other; both values are named.
        """
        if not self.kafka_servers:
            raise NotConfiguredError(
                "no Kafka servers are configured; pass kafka_servers=[...] to Application() or "
                "configure(), set KAFKAESK_KAFKA_SERVERS, or use --kafka-servers"
            )
        self.client.check()
        _check(self._relations())

    def check_handover(self) -> None:
        """Check what must hold between the settings of consumers.

        Raises:
            ConfigurationError: two settings contradict each other; both values are named.
        """
        _check(self._handover_relations())

    def _handover_relations(self) -> Iterator[tuple[bool, str]]:
        """Partitions must be handed over before the group stops waiting for us."""
        client = self.client
        phases = self.drain_timeout + self.cancel_grace + self.commit_timeout
        heartbeat = client.number("heartbeat_interval_ms") / 1000
        rebalance = client.number("rebalance_timeout_ms") / 1000
        request = client.number("request_timeout_ms") / 1000
        yield (
            heartbeat + phases + 2 < rebalance,
            f"heartbeat_interval_ms + drain_timeout + cancel_grace + commit_timeout + 2s is "
            f"{heartbeat + phases + 2:g}s, which does not fit into rebalance_timeout_ms "
            f"{rebalance:g}s; lower drain_timeout ({self.drain_timeout:g}s) or raise "
            "rebalance_timeout_ms",
        )
        yield (
            request >= rebalance + 5,
            f"request_timeout_ms {request:g}s of the consumer is less than rebalance_timeout_ms "
            f"{rebalance:g}s + 5s; raise request_timeout_ms, or joining the group times out",
        )
        yield (
            self.shutdown_timeout > phases,
            f"shutdown_timeout {self.shutdown_timeout:g}s does not exceed drain_timeout + "
            f"cancel_grace + commit_timeout {phases:g}s; raise shutdown_timeout or lower "
            "drain_timeout",
        )

    def _relations(self) -> Iterator[tuple[bool, str]]:
        client = self.client
        request = client.number("request_timeout_ms", producer=True) / 1000
        yield (
            self.delivery_timeout > request,
            f"delivery_timeout {self.delivery_timeout:g}s does not exceed the producer's "
            f"request_timeout_ms {request:g}s; raise delivery_timeout",
        )
        for buffer, name, is_producer in (
            ("send_buffer_bytes", "max_request_size", True),
            ("fetch_buffer_bytes", "max_partition_fetch_bytes", False),
        ):
            room, largest = getattr(self, buffer), client.number(name, producer=is_producer)
            yield (
                room >= largest,
                f"{buffer} {room} is less than {name} {largest:.0f}, so the largest message would "
                f"never fit; raise {buffer}",
            )

    def shown(self) -> dict[str, Any]:
        """The settings as they may be shown: secrets masked."""
        return {**self.model_dump(), "kafka_settings": self.client.masked()}


def _check(relations: Iterator[tuple[bool, str]]) -> None:
    for holds, otherwise in relations:
        if not holds:
            raise ConfigurationError(otherwise)


def taken_over(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer of settings with those that its `kafka_settings` has, as kafkaesk 0.8 did.

    Raises:
        ConfigurationError: one is given in both places, with different values.
    """
    given = layer.get("kafka_settings")
    if not isinstance(given, Mapping):
        return dict(layer)
    taken = dict(layer)
    for option, name in _TAKEN_OVER.items():
        if option not in given:
            continue
        own, default = layer.get(name), Settings.model_fields[name].default
        if own not in (None, default, given[option]):
            raise ConfigurationError(
                f"kafka_settings[{option!r}] is {given[option]!r}, but {name} is {own!r}; "
                f"set {name} alone"
            )
        taken[name] = given[option]
    taken["kafka_settings"] = {key: given[key] for key in given if key not in _TAKEN_OVER}
    return taken


def merged_settings(
    *layers: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Merge layers of settings, the later over the earlier, then the environment, then overrides.

    Raises:
        ConfigurationError: a name is unknown or a value has the wrong type; it is named.
    """
    from .environment import environment_of  # a third of the package's import time: only to start

    try:
        environment = environment_of(Settings, ENV_PREFIX)
    except Exception as error:
        raise ConfigurationError(
            f"wrong environment variable: {_told(error, ENV_PREFIX)}"
        ) from error
    merged: dict[str, Any] = {}
    for layer in map(taken_over, (*layers, environment, overrides or {})):
        merged.update({name: value for name, value in layer.items() if value is not None})
    return checked(merged)


def checked(values: Mapping[str, Any]) -> Settings:
    """Check names and types, of the settings and of what is in `kafka_settings`.

    Raises:
        ConfigurationError: names the setting and what is wrong with it.
    """
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_told(error, "")) from error
    _ = settings.client  # names and types of its options
    return settings


def known_variables() -> set[str]:
    """The names of all environment variables that the core reads."""
    others = ("PLUGINS", "DISABLE_PLUGINS", "PLUGIN_ORDER", "LOG_LEVEL", "LOG_FORMAT")
    return {f"{ENV_PREFIX}{name.upper()}" for name in (*Settings.model_fields, *others)}


def listed(variable: str) -> list[str] | None:
    """Return the names in an environment variable, separated by commas; None if it is not set."""
    value = os.environ.get(variable)
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _told(error: Exception, prefix: str) -> str:
    if not isinstance(error, ValidationError):
        return _told_of_json(error, prefix)
    problems = []
    for problem in error.errors(include_url=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"there is no setting {name!r}{hint}")
            continue
        # What is in kafka_settings may be secret.
        value = "" if name.startswith("kafka_settings") else f", got {problem['input']!r}"
        shown = prefix + name.upper() if prefix else name
        text = problem["msg"].replace("Input should be", "must be").partition(", unable to")[0]
        if prefix:
            text = text.replace("a valid dictionary", "a JSON object")
        problems.append(f"{shown} {text}{value}")
    return "; ".join(problems)


def _told_of_json(error: Exception, prefix: str) -> str:
    """Say which variable is not the JSON that it has to be; pydantic-settings names the field."""
    field = re.search(r'field "(\w+)"', str(error))
    if field is None:
        return str(error)
    return f"{prefix}{field[1].upper()} must be a JSON object: {error.__cause__ or error}"

"""Typed settings: their sources, and the checks of the relations between them.

Precedence: command line > environment (`KAFKAESK_*`) > `configure` > constructor > default. The
relations between values are checked once, at the start, on the merged result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError, from_json

from .environment import describe_problems, read_model
from .errors import ConfigurationError, NotConfiguredError
from .topic_names import LONGEST, TOPIC_NAME_RULE, invalid_character

if TYPE_CHECKING:
    from .client_options import ClientOptions

__all__ = [
    "Settings",
    "Tuning",
    "check_settings",
    "describe_default",
    "lift_settings",
    "merge_settings",
]

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_LIFTED = {
    "auto_commit_interval_ms": "auto_commit_interval_ms",
    "api_version": "kafka_api_version",
}
"""Options of aiokafka that are also our settings, with the same meaning (D26)."""


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


def _split_addresses(value: object) -> object:
    """Split addresses at commas; keep a URL whole, because its options may have commas."""
    if isinstance(value, str):
        value = _parse_list(value) or [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise PydanticCustomError("servers", 'must be "host:port" or a list of them')
    texts = [[v] if _URL.match(v.strip()) else v.split(",") for v in value]
    return tuple(text.strip() for one in texts for text in one if text.strip())


def _parse_list(text: str) -> list[Any] | None:  # of any JSON
    try:
        found = from_json(text)
    except ValueError:
        return None  # "[::1]:9092" for one
    return found if isinstance(found, list) else None


Seconds = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(gt=0)]
MIB = 1024 * 1024


class _Heading(TypedDict):
    """Arguments of `Field` that list a setting under a heading."""

    json_schema_extra: JsonDict


_KAFKA: _Heading = {"json_schema_extra": {"heading": "Kafka"}}
_TOPICS: _Heading = {"json_schema_extra": {"heading": "Topics"}}
_PUBLISHING: _Heading = {"json_schema_extra": {"heading": "Publishing"}}
_CONSUMING: _Heading = {"json_schema_extra": {"heading": "Consuming"}}
_LIFECYCLE: _Heading = {"json_schema_extra": {"heading": "Lifecycle"}}


class Tuning(TypedDict, total=False):
    """The keyword-only settings of `Application`; times in seconds, sizes in bytes."""

    create_topics: bool
    partitions: int
    validate_published: bool
    start_timeout: float
    shutdown_timeout: float
    drain_timeout: float
    cancel_grace: float
    commit_notes: bool
    count_crashes: bool
    commit_timeout: float
    delivery_timeout: float
    max_uncommitted: int
    max_record_age: float
    fetch_buffer_bytes: int
    send_buffer_bytes: int


class Settings(BaseModel):
    """All settings of an application; times in seconds unless the name ends in `_ms`.

    Each setting is declared once, here. The command's option with its default and help, the
    environment variable, and the README's table come from these fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka_servers: Annotated[tuple[str, ...], BeforeValidator(_split_addresses)] = Field(
        (),
        description="Brokers as host:port, separated by commas, or one URL such as embedded://.",
        **_KAFKA,
    )
    kafka_settings: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="Options of aiokafka's clients, as a JSON object: security, timeouts, sizes.",
        **_KAFKA,
    )
    kafka_api_version: str = Field(
        "auto", description="Accepted and ignored: the clients negotiate versions.", **_KAFKA
    )
    topic_prefix: str = Field(
        "", description="Prefix of every topic: topic = prefix + stream.", **_TOPICS
    )
    create_topics: bool = Field(
        True,
        description="Create missing topics. Without it a missing topic is an error.",
        **_TOPICS,
    )
    replication_factor: Count | None = Field(
        None,
        description="Replicas of each topic that is created.",
        json_schema_extra={"heading": "Topics", "default": "min(brokers, 3)"},
    )
    partitions: Count = Field(7, description="Partitions of each topic that is created.", **_TOPICS)
    validate_published: bool = Field(
        True,
        description="Validate model instances again when they are published.",
        **_PUBLISHING,
    )
    delivery_timeout: Seconds = Field(
        120.0,
        description="Seconds until an unacknowledged message counts as failed.",
        **_PUBLISHING,
    )
    send_buffer_bytes: Count = Field(
        32 * MIB, description="Memory for messages that wait to be sent.", **_PUBLISHING
    )
    auto_commit: bool = Field(
        True, description="Commit handled records automatically.", **_CONSUMING
    )
    commit_notes: bool = Field(
        True,
        description="Store attempts and finished records with offsets, so they survive a restart.",
        **_CONSUMING,
    )
    count_crashes: bool = Field(
        False,
        description="Commit before each record in the 5 s after an assignment, to count crashes.",
        **_CONSUMING,
    )
    auto_commit_interval_ms: Count = Field(
        5000, description="Milliseconds between commits.", **_CONSUMING
    )
    max_uncommitted: Count = Field(
        10_000,
        description="Records of a partition that may be ahead of its commit.",
        **_CONSUMING,
    )
    max_record_age: Seconds = Field(
        300.0,
        description="Seconds after which an unfinished record makes the application unhealthy.",
        **_CONSUMING,
    )
    fetch_buffer_bytes: Count = Field(
        32 * MIB, description="Memory for fetched records that wait to be handled.", **_CONSUMING
    )
    start_timeout: Seconds = Field(
        30.0, description="Seconds to try to reach a broker.", **_LIFECYCLE
    )
    shutdown_timeout: Seconds = Field(
        25.0, description="Seconds that a stop may take.", **_LIFECYCLE
    )
    drain_timeout: Seconds = Field(
        15.0,
        description="Seconds that running handlers have to finish in a handover or a stop.",
        **_LIFECYCLE,
    )
    cancel_grace: Seconds = Field(
        2.0, description="Seconds that cancelled handlers have to end.", **_LIFECYCLE
    )
    commit_timeout: Seconds = Field(
        5.0, description="Seconds that a commit may take.", **_LIFECYCLE
    )

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
        """`kafka_settings`, checked and assigned to the clients."""
        # It loads aiokafka, which `kafkaesk --help` does not need.
        from .client_options import ClientOptions

        return ClientOptions(self.kafka_settings)

    def over(self, kafka_settings: Mapping[str, Any]) -> Settings:
        """Return these settings, checked, with additional defaults for `kafka_settings`."""
        if not kafka_settings:
            return self
        merged = {**kafka_settings, **self.kafka_settings}
        settings = self.model_copy(update={"kafka_settings": merged})
        settings.check()
        return settings

    def with_overrides(self, values: Mapping[str, Any]) -> Settings:
        """Return these settings, checked, with some values replaced.

        Raises:
            ConfigurationError: a value has the wrong type, or contradicts another.
        """
        if not values:
            return self
        settings = check_settings({**self.model_dump(exclude_unset=True), **values})
        settings.check_relations()
        settings.check_handover()
        return settings

    def check(self) -> None:
        """Check the servers and the relations between settings that matter without consumers.

        Raises:
            NotConfiguredError: there are no servers.
            ConfigurationError: an address is not "host:port", or two settings contradict each
                other; the error names both values.
        """
        if not self.kafka_servers:
            raise NotConfiguredError(
                "no Kafka servers are configured; pass kafka_servers=[...] to Application() or "
                "configure(), set KAFKAESK_KAFKA_SERVERS, or use --kafka-servers; embedded:// is a "
                "broker inside the process (kafkaesk-testing), which needs no Kafka"
            )
        _check_servers(self.kafka_servers)
        self.check_relations()

    def check_relations(self) -> None:
        """Do the same without checking the servers.

        Raises:
            ConfigurationError: two settings contradict each other; both values are named.
        """
        self.client.check()
        _check(self._relations())

    def check_handover(self) -> None:
        """Check the relations between the settings of consumers.

        Raises:
            ConfigurationError: two settings contradict each other; both values are named.
        """
        _check(self._handover_relations())

    def _handover_relations(self) -> Iterator[tuple[bool, str]]:
        """Yield the checks that a handover ends before the group stops waiting for us."""
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
        """Return the settings with secrets masked."""
        return {**self.model_dump(), "kafka_settings": self.client.masked()}


def _check_servers(servers: Sequence[str]) -> None:
    urls = [server for server in servers if "://" in server]
    if urls and len(servers) > 1:
        raise ConfigurationError(
            f"kafka_servers mixes the URL {urls[0]!r} with {len(servers) - 1} other addresses; "
            "give one URL, or addresses as host:port"
        )
    for server in () if urls else servers:
        host, _, port = server.rpartition(":")
        is_host = bool(host) and not any(c in "/ " or not c.isprintable() for c in host)
        if not is_host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigurationError(
                f"kafka_servers has {server!r}, which is not an address; write host:port, "
                "as in localhost:9092"
            )


def _check(relations: Iterator[tuple[bool, str]]) -> None:
    for holds, otherwise in relations:
        if not holds:
            raise ConfigurationError(otherwise)


def lift_settings(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer of settings, with those that kafkaesk 0.8 had in `kafka_settings` moved out.

    Raises:
        ConfigurationError: a setting has different values in the two places.
    """
    given = layer.get("kafka_settings")
    if not isinstance(given, Mapping):
        return dict(layer)
    taken = dict(layer)
    for option, name in _LIFTED.items():
        if option not in given:
            continue
        own, default = layer.get(name), Settings.model_fields[name].default
        if own not in (None, default, given[option]):
            raise ConfigurationError(
                f"kafka_settings[{option!r}] is {given[option]!r}, but {name} is {own!r}; "
                f"set {name} alone"
            )
        taken[name] = given[option]
    taken["kafka_settings"] = {key: given[key] for key in given if key not in _LIFTED}
    return taken


def merge_settings(
    *layers: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Merge layers of settings; later layers win, then the environment, then the overrides.

    Raises:
        ConfigurationError: a name is unknown or a value has the wrong type; the error names it.
    """
    environment = read_model(Settings)
    merged: dict[str, Any] = {}
    for layer in map(lift_settings, (*layers, environment, overrides or {})):
        merged.update({name: value for name, value in layer.items() if value is not None})
    return check_settings(merged)


def check_settings(values: Mapping[str, Any]) -> Settings:
    """Check names and types of the settings, and of the options in `kafka_settings`.

    Raises:
        ConfigurationError: a setting is wrong; the error names the setting and the problem.
    """
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(describe_problems(error, Settings)) from error
    _ = settings.client  # names and types of its options
    return settings


def describe_default(name: str) -> str:
    """Return a setting's default as the help and the README show it; "" if it has none."""
    field = Settings.model_fields[name]
    default = (field.json_schema_extra or {}).get("default", field.default)  # type: ignore[union-attr]
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, (int, float)):
        return f"{default // MIB} MiB" if name.endswith("_bytes") else f"{default:g}"
    return default if isinstance(default, str) else ""

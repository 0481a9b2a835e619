"""`kafka_settings`: which option belongs to which aiokafka client, checked before any connects.

The table is built from the signatures of aiokafka's clients. Every option of a client is accepted;
an unknown option is an error that names the closest known one.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, codec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient

from .errors import ConfigurationError
from .tls import TLS_OPTIONS, make_ssl_context, tls_options_of

__all__ = ["ClientOptions"]

OURS = {
    "bootstrap_servers": "kafka_servers=[...]",
    "group_id": "the group argument of subscribe()",
    "enable_auto_commit": "auto_commit=",
    "auto_commit_interval_ms": "auto_commit_interval_ms= of Application",
    "loop": "nothing: the running loop is used",
    "api_version": "nothing: aiokafka negotiates it",
    "transactional_id": "nothing: delivery is at least once, without transactions",
    "transaction_timeout_ms": "nothing: delivery is at least once, without transactions",
    "key_serializer": "bytes as key=",
    "value_serializer": "schemas, or raw_publish()",
    "key_deserializer": "record.key in the handler",
    "value_deserializer": "the annotation of the handler's first parameter",
    "max_poll_records": "nothing: fetching is independent of handling",
    "consumer_timeout_ms": "nothing: polling never waits on it",
}
"""Options of aiokafka that this library decides, and what to use instead."""

DEFAULTS: Mapping[str, Any] = {
    "session_timeout_ms": 45_000,
    "heartbeat_interval_ms": 3_000,
    "rebalance_timeout_ms": 30_000,
    "acks": "all",
    "enable_idempotence": True,
}
"""This library's defaults that differ from aiokafka's."""

PRODUCER_DEFAULTS: Mapping[str, Any] = {**DEFAULTS, "request_timeout_ms": 30_000}

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "security_protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl_mechanism": ("PLAIN", "GSSAPI", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
    "auto_offset_reset": ("earliest", "latest", "none"),
    "isolation_level": ("read_uncommitted", "read_committed"),
    "compression_type": (None, "gzip", "snappy", "lz4", "zstd"),
    "acks": ("all", -1, 0, 1),
}

_OPTIONAL_CODECS: Mapping[str, Callable[[], bool]] = {
    "snappy": codec.has_snappy,
    "lz4": codec.has_lz4,
    "zstd": codec.has_zstd,
}

SECRETS = ("sasl_plain_password", "sasl_oauth_token_provider", "ssl_context", "ssl_password")


@cache
def _parameters(client: type) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(client).parameters.values()
    return {p.name: p for p in parameters if p.kind is not p.VAR_POSITIONAL}


class ClientOptions:
    """The user's `kafka_settings`; unknown names, wrong types and invalid choices are refused.

    Raises:
        ConfigurationError: an option is invalid; the error names the option, its value (never a
            secret) and the remedy.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)
        for name, value in self._given.items():
            _check_name(name)
            _check_value(name, value)

    def __repr__(self) -> str:
        return f"ClientOptions({self.masked()})"

    def masked(self) -> dict[str, Any]:
        """The options with secrets masked."""
        return {k: "***" if k in SECRETS and v else v for k, v in self._given.items()}

    @property
    def auto_offset_reset(self) -> str:
        """Where a group without a committed offset starts; "earliest" by default."""
        return str(self._given.get("auto_offset_reset", "earliest"))

    def number(self, name: str, *, producer: bool = False) -> float:
        """The value of a numeric option of the consumer or the producer."""
        client = AIOKafkaProducer if producer else AIOKafkaConsumer
        value = self._for(client, PRODUCER_DEFAULTS if producer else DEFAULTS).get(name)
        return float(_parameters(client)[name].default if value is None else value)

    def for_consumer(self) -> dict[str, Any]:
        """Arguments of AIOKafkaConsumer."""
        return self._for(AIOKafkaConsumer, DEFAULTS)

    def for_producer(self) -> dict[str, Any]:
        """Arguments of AIOKafkaProducer."""
        return self._for(AIOKafkaProducer, PRODUCER_DEFAULTS)

    def for_admin(self) -> dict[str, Any]:
        """Arguments of AIOKafkaAdminClient."""
        return self._for(AIOKafkaAdminClient, {})

    def _for(self, client: type, defaults: Mapping[str, Any]) -> dict[str, Any]:
        merged = {**defaults, **self._given}
        if self._uses_tls and self._given.get("ssl_context") is None:
            merged["ssl_context"] = make_ssl_context(self._given)
        return {name: value for name, value in merged.items() if name in _parameters(client)}

    @property
    def _protocol(self) -> str:
        return str(self._given.get("security_protocol", "PLAINTEXT"))

    @property
    def _uses_tls(self) -> bool:
        return "SSL" in self._protocol

    def check(self) -> None:
        """Check that the options do not contradict each other.

        Raises:
            ConfigurationError: two options contradict each other; both values are named.
        """
        self._check_security()
        self._check_libraries()
        session, heartbeat = self.number("session_timeout_ms"), self.number("heartbeat_interval_ms")
        if heartbeat > session / 3:
            raise ConfigurationError(
                f"heartbeat_interval_ms {heartbeat:g} exceeds a third of session_timeout_ms "
                f"{session:g}; lower the heartbeat to {session / 3:.0f} or less"
            )
        idempotent = self._given.get("enable_idempotence", True)
        acks = self._given.get("acks", "all")
        if idempotent and acks not in ("all", -1):
            raise ConfigurationError(
                f"acks={acks!r} contradicts enable_idempotence=True; "
                "leave acks out, or set enable_idempotence to False and accept duplicates"
            )

    def _check_libraries(self) -> None:
        """Check optional libraries: without one, the first batch or connection would fail."""
        compression = str(self._given.get("compression_type"))
        if compression in _OPTIONAL_CODECS and not _OPTIONAL_CODECS[compression]():
            raise ConfigurationError(
                f"compression_type={compression} needs a library that is not installed; "
                f"pip install kafkaesk-core[{compression}]"
            )
        uses_sasl = str(self._given.get("security_protocol", "")).startswith("SASL")
        if uses_sasl and self._given.get("sasl_mechanism") == "GSSAPI" and not _has_gssapi():
            raise ConfigurationError(
                "sasl_mechanism=GSSAPI needs a library that is not installed; "
                "pip install kafkaesk-core[gssapi]"
            )

    def _check_security(self) -> None:
        protocol, uses_sasl = self._protocol, self._protocol.startswith("SASL")
        self._check_tls()
        sasl = sorted(name for name in self._given if name.startswith("sasl_"))
        if sasl and not uses_sasl:
            raise ConfigurationError(
                f"{', '.join(sasl)} set but security_protocol is {protocol}, which does not "
                "authenticate; set security_protocol to SASL_SSL or SASL_PLAINTEXT"
            )
        mechanism = self._given.get("sasl_mechanism", "PLAIN")
        if uses_sasl and (missing := self._missing_credential(mechanism)):
            raise ConfigurationError(f"sasl_mechanism={mechanism} needs {missing}")

    def _check_tls(self) -> None:
        tls = list(tls_options_of(self._given))
        if self._given.get("ssl_context") is not None:
            if tls:
                raise ConfigurationError(
                    f"ssl_context and {tls[0]} are both set, but the files make a context of their "
                    "own; load them into ssl_context, or leave it out"
                )
            tls = ["ssl_context"]
        if tls and not self._uses_tls:
            raise ConfigurationError(
                f"{tls[0]} is set but security_protocol is {self._protocol}, which does not "
                "encrypt; set security_protocol to SSL or SASL_SSL"
            )
        if self._uses_tls and tls != ["ssl_context"]:
            make_ssl_context(self._given)

    def _missing_credential(self, mechanism: str) -> str | None:
        if mechanism == "OAUTHBEARER":
            needed: tuple[str, ...] = ("sasl_oauth_token_provider",)
        elif mechanism == "GSSAPI":
            needed = ()
        else:
            needed = ("sasl_plain_username", "sasl_plain_password")
        return next((name for name in needed if self._given.get(name) is None), None)


def _has_gssapi() -> bool:
    try:
        importlib.import_module("gssapi")  # as aiokafka does
    except ImportError:
        return False
    return True


def _check_name(name: str) -> None:
    if name in OURS:
        raise ConfigurationError(
            f"kafka_settings[{name!r}] is decided by kafkaesk; use {OURS[name]} instead"
        )
    known = {
        option
        for client in (AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient)
        for option in _parameters(client)
    } - set(OURS)
    known |= set(TLS_OPTIONS)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
        raise ConfigurationError(f"kafka_settings has the unknown option {name!r}; {hint}")


def _check_value(name: str, value: Any) -> None:
    if name in CHOICES:
        if value not in CHOICES[name]:
            choices = ", ".join(repr(choice) for choice in CHOICES[name])
            raise ConfigurationError(f"kafka_settings[{name!r}] is {value!r}; use one of {choices}")
        return
    expected = _expected_types(name)
    is_bool_for_number = isinstance(value, bool) and bool not in expected
    if expected and (is_bool_for_number or not isinstance(value, expected)):
        shown = "***" if name in SECRETS else repr(value)
        names = " or ".join("None" if t is type(None) else t.__name__ for t in expected)
        raise ConfigurationError(
            f"kafka_settings[{name!r}] is {shown} of type {type(value).__name__}; use {names}"
        )
    if name == "partition_assignment_strategy" and len(value) != 1:
        raise ConfigurationError(
            f"kafka_settings[{name!r}] lists {len(value)} assignors; use exactly one, "
            "aiokafka joins the group once per assignor otherwise"
        )


def _expected_types(name: str) -> tuple[type, ...]:
    special: Mapping[str, tuple[type, ...]] = {
        "ssl_context": (ssl.SSLContext, type(None)),
        "sasl_oauth_token_provider": (AbstractTokenProvider, type(None)),
        "partition_assignment_strategy": (tuple, list),
        "rebalance_timeout_ms": (int,),
        "connections_max_idle_ms": (int, type(None)),
        "partitioner": (),
        **TLS_OPTIONS,
    }
    if name in special:
        return special[name]
    for client in (AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient):
        parameter = _parameters(client).get(name)
        if parameter is not None:
            default = parameter.default
            return (str, type(None)) if default is None else (type(default),)
    return ()

"""Where a real Kafka comes from on this machine."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from .cluster import KafkaCluster
from .compose import ComposeKafka, check_docker
from .errors import KafkaBrokerError, KafkaUnavailableError
from .java import find_java
from .probe import wait_until_ready


class Kafka(Protocol):
    """A broker that runs; each address is ``host:port``."""

    @property
    def servers(self) -> list[str]:
        """The addresses to bootstrap from."""

    @property
    def host_port(self) -> str:
        """The first of `servers`."""


@dataclass(frozen=True, slots=True)
class NamedKafka:
    """A broker that somebody else runs."""

    servers: list[str]

    @property
    def host_port(self) -> str:
        """The first of `servers`."""
        return self.servers[0]


def find_kafka(*, timeout: float = 5.0) -> AbstractContextManager[Kafka]:
    """Return what runs a real Kafka while it is entered.

    In this order: the broker that ``KAFKA=host:port`` names; one started from Maven's packages, if
    there are Java and Maven; one in a container, if there is a Docker engine with compose.

    Raises:
        KafkaBrokerError: the broker that ``KAFKA`` names does not answer within ``timeout``.
        KafkaUnavailableError: there is none of the three; the message says why, one by one.
    """
    named = os.environ.get("KAFKA")
    if named:
        return nullcontext(_named(named, timeout))
    reasons = []
    for source in (_maven, _docker):
        try:
            return source()
        except KafkaUnavailableError as error:
            reasons.append(str(error))
    raise KafkaUnavailableError(", ".join(["KAFKA is not set", *reasons]))


def _maven() -> KafkaCluster:
    find_java()
    return KafkaCluster()


def _docker() -> ComposeKafka:
    check_docker()
    return ComposeKafka()


def _named(addresses: str, timeout: float) -> NamedKafka:
    servers = [address.strip() for address in addresses.split(",")]
    for address in servers:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise KafkaBrokerError(f"KAFKA={addresses} is not host:port")
    try:
        wait_until_ready(servers[0], timeout=timeout)
    except KafkaBrokerError as error:
        raise KafkaBrokerError(f"KAFKA={addresses} names no broker that works: {error}") from error
    return NamedKafka(servers)

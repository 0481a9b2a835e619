"""The sources of a real Kafka on this machine: a named broker, Maven, or a container."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from .cluster import KafkaCluster
from .errors import KafkaBrokerError, KafkaUnavailableError
from .kafka_install import KAFKA_VERSION, find_java
from .properties import CONTROLLER, INTERNAL, free_ports, server_properties
from .readiness import wait_until_ready


class Kafka(Protocol):
    """A running broker; each address is ``host:port``."""

    @property
    def servers(self) -> list[str]:
        """The addresses to bootstrap from."""

    @property
    def host_port(self) -> str:
        """The first of `servers`."""


@dataclass(frozen=True, slots=True)
class NamedKafka:
    """A broker that runs independently of this process."""

    servers: list[str]

    @property
    def host_port(self) -> str:
        """The first of `servers`."""
        return self.servers[0]


def find_kafka(*, timeout: float = 5.0) -> AbstractContextManager[Kafka]:
    """Return a context manager that runs a real Kafka.

    The sources are tried in this order: the broker that ``KAFKA=host:port`` names; a broker from
    Maven's packages, if there are Java and Maven; a broker in a container, if there is a Docker
    engine with compose.

    Raises:
        KafkaBrokerError: the broker that ``KAFKA`` names does not answer within ``timeout``.
        KafkaUnavailableError: no source is available; the error has the reason for each.
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


# --- a container

_PULL_SECONDS = 600.0


def check_docker(*, timeout: float = 10.0) -> None:
    """Check that there is a Docker client with its compose command, and that the engine answers.

    Raises:
        KafkaUnavailableError: one of these is missing.
    """
    if shutil.which("docker") is None:
        raise KafkaUnavailableError("docker is not on PATH")
    checks = {
        "no docker engine answers": ["docker", "info", "--format", "{{.ServerVersion}}"],
        "docker has no compose command": ["docker", "compose", "version"],
    }
    for missing, command in checks.items():
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KafkaUnavailableError(missing) from error
        if done.returncode:
            raise KafkaUnavailableError(missing)


class ComposeKafka:
    """A container with one broker on a free local port; a context manager that runs it."""

    def __init__(self, *, start_timeout: float = 60.0) -> None:
        self._port = free_ports(1)[0]
        self._start_timeout = start_timeout
        self._project = f"kafkaesk-{os.urandom(4).hex()}"
        self._directory = Path(tempfile.gettempdir()) / self._project

    @property
    def host_port(self) -> str:
        """The broker, as ``host:port``."""
        return f"127.0.0.1:{self._port}"

    @property
    def servers(self) -> list[str]:
        """A list of `host_port`."""
        return [self.host_port]

    def start(self) -> None:
        """Start the container, pulling the image if necessary; return when the broker is ready.

        Raises:
            KafkaBrokerError: the broker was not ready in time; the error has the end of its log.
        """
        self._directory.mkdir()
        self._file.write_text(json.dumps(self._service(), indent=2))
        atexit.register(self.stop)
        try:
            self._compose("up", "--detach")
            wait_until_ready(self.host_port, timeout=self._start_timeout)
        except KafkaBrokerError as error:
            log = self._compose("logs", "--tail", "20", check=False)
            self.stop()
            raise KafkaBrokerError(f"{error}; the container said: {log}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the container and its data."""
        atexit.unregister(self.stop)
        if self._directory.exists():
            self._compose("down", "--volumes", "--timeout", "0", check=False)
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _file(self) -> Path:
        return self._directory / "compose.yml"  # what is in it is JSON, which is YAML too

    def _compose(self, *arguments: str, check: bool = True) -> str:
        command = ["docker", "compose", "-p", self._project, "-f", str(self._file), *arguments]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_PULL_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            text = f"docker compose {arguments[0]} took over {_PULL_SECONDS:g} seconds"
            raise KafkaBrokerError(text) from error
        if check and done.returncode:
            text = f"docker compose {arguments[0]} failed: {done.stdout.strip()[-500:]}"
            raise KafkaBrokerError(text)
        return done.stdout

    def _service(self) -> dict[str, object]:
        # Inside and outside the port is the same, as the broker connects to its advertised address.
        ports = {INTERNAL: self._port, CONTROLLER: 9093}
        data = Path("/tmp/kraft-combined-logs")
        properties = server_properties(
            1, ports={1: ports}, listeners=(), data=data, fast_failover=True
        )
        properties["listeners"] = f"{INTERNAL}://:{self._port},{CONTROLLER}://:9093"
        return {
            "services": {
                "kafka": {
                    "image": f"apache/kafka:{KAFKA_VERSION}",
                    "ports": [f"127.0.0.1:{self._port}:{self._port}"],
                    "environment": {
                        f"KAFKA_{key.upper().replace('.', '_')}": value
                        for key, value in properties.items()
                    },
                }
            }
        }

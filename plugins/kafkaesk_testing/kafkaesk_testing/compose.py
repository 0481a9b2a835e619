"""One broker of a real Apache Kafka in a container, by ``docker compose``."""

import atexit
import json
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import KafkaBrokerError, KafkaUnavailableError
from .jars import KAFKA_VERSION
from .ports import free_ports
from .probe import wait_until_ready
from .properties import CONTROLLER, INTERNAL, server_properties

_PULL_SECONDS = 600.0

logger = logging.getLogger("kafkaesk.testing.compose")


def check_docker(*, timeout: float = 10.0) -> None:
    """Make sure that there is a Docker client, its compose command, and an engine that answers.

    Raises:
        KafkaUnavailableError: one of them is missing.
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
        """Start the container, pulling the image if need be; return when the broker is ready.

        Raises:
            KafkaBrokerError: it was not ready in time; the end of its log is in the message.
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

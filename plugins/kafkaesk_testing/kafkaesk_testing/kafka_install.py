"""Apache Kafka on this machine: its jars, the Java runtime, and a class-data archive.

Maven fetches the jars once per user. The archive halves the start time of a broker; it is made once
per Java.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import KafkaTestingError, KafkaUnavailableError
from .node import Guard, KafkaNode
from .properties import CONTROLLER, INTERNAL, free_ports, server_properties

logger = logging.getLogger("kafkaesk.testing")

KAFKA_VERSION = "4.3.1"

_LOG4J_VERSION = "2.25.4"
# log4j-slf4j-impl binds the SLF4J 1.7 that Kafka brings: without it the broker writes no log.
_POM = f"""\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def cache_directory() -> Path:
    """Return the directory of this version's files, in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kafkaesk-testing" / f"kafka-{KAFKA_VERSION}"


def fetch_jars(*, timeout: float = 600.0) -> Path:
    """Return the directory of the jars; run Maven first if this user has no jars yet.

    Concurrent processes wait for the one that fetches. The jars take about 44 MB.

    Raises:
        KafkaUnavailableError: ``mvn`` is missing, failed, or took longer than ``timeout``.
    """
    cache = cache_directory()
    jars = cache / "libs"
    if jars.is_dir():
        return jars
    with locked(cache / "libs.lock"):
        if not jars.is_dir():
            _fetch_with_maven(cache, jars, timeout)
    return jars


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system releases it if this process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_with_maven(cache: Path, jars: Path, timeout: float) -> None:
    if shutil.which("mvn") is None:
        raise KafkaUnavailableError("cannot fetch Kafka's jars: mvn is not on PATH; install Maven")
    logger.info("fetching Apache Kafka %s with Maven into %s, once", KAFKA_VERSION, jars)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as scratch:
        (Path(scratch) / "pom.xml").write_text(_POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
        try:
            done = subprocess.run(
                command,
                cwd=scratch,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired as error:
            raise KafkaUnavailableError(
                f"cannot fetch Kafka's jars: mvn took over {timeout:g} seconds"
            ) from error
        if done.returncode:
            raise KafkaUnavailableError(
                f"cannot fetch Kafka's jars: mvn failed: {_first_error(done.stdout)}"
            )
        (Path(scratch) / "libs").rename(jars)


def _first_error(output: str) -> str:
    lines = [line for line in output.splitlines() if "ERROR" in line]
    return lines[0].strip() if lines else output.strip()[-300:]


# --- Java

# Apache Kafka 4 brokers need Java 17: https://kafka.apache.org/documentation/#java
_OLDEST_VERSION = 17
_FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True, slots=True)
class Java:
    """A Java executable and the class path of Kafka."""

    executable: str
    version: str
    jars: Path

    @property
    def fingerprint(self) -> str:
        """A name for this Java and class path; a class-data archive is valid for only one pair."""
        return hashlib.sha256(f"{self.version}\n{self.jars}".encode()).hexdigest()[:16]

    def command(self, main: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs the class ``main``."""
        class_path = ("-cp", f"{self.jars}/*")
        return [self.executable, *_FAST_START, *options, *class_path, main, *arguments]


def find_java() -> Java:
    """Return the Java on PATH with Kafka's jars; Maven fetches them if necessary.

    Raises:
        KafkaUnavailableError: Java is missing or too old for Kafka, or the jars are not available.
    """
    executable = shutil.which("java")
    if executable is None:
        raise KafkaUnavailableError("java is not on PATH")
    try:
        done = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KafkaUnavailableError(f"java -version did not answer: {error}") from error
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    if done.returncode or found is None:
        raise KafkaUnavailableError(f"java -version failed: {done.stderr.strip()[:200]}")
    if int(found[1]) < _OLDEST_VERSION:
        text = f"java is version {found[1]}; Kafka needs {_OLDEST_VERSION} or newer"
        raise KafkaUnavailableError(text)
    return Java(executable=executable, version=done.stderr.strip(), jars=fetch_jars())


# --- the archive


def class_archive(java: Java) -> Path | None:
    """Return the archive for this Java, made now if necessary; None if it is not available.

    While another process makes the archive, this process continues without it. A failure is logged,
    and not retried until the cache directory is deleted.
    """
    cache = cache_directory()
    archive = cache / f"classes-{java.fingerprint}.jsa"
    refused = archive.with_suffix(".refused")
    if archive.exists():
        return archive
    if refused.exists():
        return None
    with archive.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _make(java, cache, archive)
        except BlockingIOError:
            return None
        except (OSError, KafkaTestingError) as error:
            logger.warning("no class-data archive, brokers start slower: %s", error)
            refused.touch()
            return None
    return archive


def _make(java: Java, cache: Path, archive: Path) -> None:
    """Run a separate broker until it is ready; at its end, the loaded classes are archived."""
    with tempfile.TemporaryDirectory(prefix="archive-", dir=cache) as scratch:
        made = Path(scratch) / archive.name
        guard = Guard()
        broker, controller = free_ports(2)
        ports = {INTERNAL: broker, CONTROLLER: controller}
        node = KafkaNode(1, directory=Path(scratch) / "n1", ports=ports, guard=guard)
        properties = server_properties(
            1, ports={1: ports}, listeners=(), data=node.data, fast_failover=True
        )
        options = [f"-XX:ArchiveClassesAtExit={made}"]
        guard.start()
        try:
            node.prepare(java, cluster_id="a" * 22, properties=properties, jvm_options=options)
            made.unlink(missing_ok=True)
            node.start()
            node.terminate()
        finally:
            node.kill()
            guard.stop()
        os.replace(made, archive)

"""Apache Kafka's jars: fetched once per user by Maven, kept in the user's cache directory."""

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import KafkaUnavailableError

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

logger = logging.getLogger("kafkaesk.testing.jars")


def cache_directory() -> Path:
    """Return where this version's files are kept: below ``XDG_CACHE_HOME``, or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kafkaesk-testing" / f"kafka-{KAFKA_VERSION}"


def fetch_jars(*, timeout: float = 600.0) -> Path:
    """Return the directory of the jars, after one run of Maven if this user has none yet.

    Processes that call at the same time wait for the one that fetches. About 44 MB.

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
    """Hold an exclusive lock between processes, ended by the system if this one dies."""
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

"""The Java that runs Kafka's classes."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import KafkaUnavailableError
from .jars import fetch_jars

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
        """A name for this Java and class path: a class-data archive is valid for one such pair."""
        return hashlib.sha256(f"{self.version}\n{self.jars}".encode()).hexdigest()[:16]

    def command(self, main: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs the class ``main``."""
        class_path = ("-cp", f"{self.jars}/*")
        return [self.executable, *_FAST_START, *options, *class_path, main, *arguments]


def find_java() -> Java:
    """Return the Java on PATH with Kafka's jars, which Maven fetches if need be.

    Raises:
        KafkaUnavailableError: there is no Java, it is too old for Kafka, or the jars cannot be had.
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

from collections.abc import Callable
from pathlib import Path

import pytest

from kafkaesk_testing import KafkaUnavailableError
from kafkaesk_testing.kafka_install import find_java

Tool = Callable[[str, str], Path]


def java_saying(text: str, code: int = 0) -> str:
    return f"sys.stderr.write({text!r}); sys.exit({code})"


def test_java_is_found_with_the_jars_as_its_class_path(tool: Tool, cache: Path) -> None:
    program = tool("java", java_saying('openjdk version "21.0.2" 2024-01-16'))
    (cache / "libs").mkdir(parents=True)

    java = find_java()

    command = java.command("kafka.Kafka", "server.properties", options=["-Xmx128m"])
    assert command[0] == str(program)
    assert command[-4:] == ["-cp", f"{cache}/libs/*", "kafka.Kafka", "server.properties"]
    assert "-Xmx128m" in command


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ('openjdk version "11.0.25" 2024-10-15', 0, "java is version 11; Kafka needs 17"),
        ('java version "1.8.0_392"', 0, "java is version 8; Kafka needs 17"),
        ("Unable to locate a Java Runtime", 1, "Unable to locate a Java Runtime"),
    ],
)
def test_a_java_that_cannot_run_kafka_is_refused_with_the_reason(
    tool: Tool, text: str, code: int, reason: str
) -> None:
    tool("java", java_saying(text, code))

    with pytest.raises(KafkaUnavailableError, match=reason):
        find_java()


def test_missing_java_is_named_and_nothing_is_fetched(tool: Tool, cache: Path) -> None:
    tool("mvn", 'raise SystemExit("must not be called")')

    with pytest.raises(KafkaUnavailableError, match="java is not on PATH"):
        find_java()


def test_another_java_has_another_fingerprint(tool: Tool, cache: Path) -> None:
    (cache / "libs").mkdir(parents=True)

    tool("java", java_saying('openjdk version "17.0.1"'))
    older = find_java().fingerprint
    tool("java", java_saying('openjdk version "17.0.2"'))
    newer = find_java().fingerprint

    assert older != newer

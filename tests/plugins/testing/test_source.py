from collections.abc import Callable
from pathlib import Path

import pytest

from kafkaesk_testing import (
    EmbeddedBroker,
    KafkaBrokerError,
    KafkaCluster,
    KafkaUnavailableError,
    find_kafka,
)
from kafkaesk_testing.properties import free_ports
from kafkaesk_testing.sources import ComposeKafka

Tool = Callable[[str, str], Path]

JAVA_17 = "sys.stderr.write('openjdk version \"17.0.15\"')"
JAVA_8 = "sys.stderr.write('java version \"1.8.0\"')"
MAVEN = 'os.mkdir("libs")'


@pytest.fixture(autouse=True)
def no_kafka_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA", raising=False)


def test_the_broker_that_the_environment_names_comes_first(
    tool: Tool, embedded_kafka: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("java", JAVA_17)
    tool("mvn", MAVEN)
    monkeypatch.setenv("KAFKA", embedded_kafka.host_port)

    with find_kafka() as kafka:
        assert kafka.servers == [embedded_kafka.host_port]
        assert kafka.host_port == embedded_kafka.host_port


def test_a_named_broker_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"localhost:{free_ports(1)[0]}"
    monkeypatch.setenv("KAFKA", address)

    with pytest.raises(KafkaBrokerError, match=f"KAFKA={address} names no broker that works"):
        find_kafka(timeout=0.1)


@pytest.mark.parametrize("address", ["localhost", ":9092", "localhost:kafka", "a:9092,b"])
def test_a_name_that_is_no_address_is_an_error(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("KAFKA", address)

    with pytest.raises(KafkaBrokerError, match="is not host:port"):
        find_kafka()


def test_java_and_maven_come_before_docker(tool: Tool, cache: Path) -> None:
    tool("java", JAVA_17)
    tool("mvn", MAVEN)
    tool("docker", "")

    assert isinstance(find_kafka(), KafkaCluster)


@pytest.mark.parametrize("java", [None, JAVA_8])
def test_docker_is_taken_where_java_is_missing_or_too_old(
    tool: Tool, cache: Path, java: str | None
) -> None:
    tool("docker", "")
    if java:
        tool("java", java)

    assert isinstance(find_kafka(), ComposeKafka)


def test_docker_is_taken_where_maven_fails(tool: Tool, cache: Path) -> None:
    tool("java", JAVA_17)
    tool("mvn", "sys.exit(1)")
    tool("docker", "")

    assert isinstance(find_kafka(), ComposeKafka)


def test_without_any_source_each_reason_is_given(tool: Tool, cache: Path) -> None:
    tool("java", JAVA_17)
    tool("docker", 'sys.exit("info" in sys.argv)')

    with pytest.raises(KafkaUnavailableError) as error:
        find_kafka()

    assert str(error.value) == (
        "KAFKA is not set, cannot fetch Kafka's jars: mvn is not on PATH; install Maven, "
        "no docker engine answers"
    )

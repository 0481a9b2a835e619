import json
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kafkaesk_testing import EmbeddedBroker, KafkaBrokerError, KafkaUnavailableError
from kafkaesk_testing.sources import ComposeKafka, check_docker

Tool = Callable[[str, str], Path]

RECORDING = """
calls = os.path.join(os.path.dirname(os.path.dirname(sys.argv[0])), "calls")
with open(calls, "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if "up" in sys.argv:
    with open(sys.argv[sys.argv.index("-f") + 1]) as source, open(calls + ".json", "w") as copy:
        copy.write(source.read())
"""


class Forward(socketserver.BaseRequestHandler):
    """One request and its answer, to the embedded broker and back."""

    target: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.target) as upstream:
            upstream.sendall(self.request.recv(65536))
            self.request.sendall(upstream.recv(65536))


def test_a_container_is_started_awaited_and_removed(
    tool: Tool, embedded_kafka: EmbeddedBroker, tmp_path: Path
) -> None:
    tool("docker", RECORDING)
    kafka = ComposeKafka()
    port = int(kafka.host_port.rpartition(":")[2])
    Forward.target = ("127.0.0.1", int(embedded_kafka.host_port.rpartition(":")[2]))

    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Forward) as container:
        threading.Thread(target=container.serve_forever).start()
        with kafka:
            assert kafka.servers == [f"127.0.0.1:{port}"]
        container.shutdown()

    up, down = (tmp_path / "calls").read_text().splitlines()
    assert up.endswith("up --detach")
    assert down.endswith("down --volumes --timeout 0")
    service = json.loads((tmp_path / "calls.json").read_text())["services"]["kafka"]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert service["image"] == "apache/kafka:4.3.1"
    environment = service["environment"]
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://127.0.0.1:{port}"
    assert environment["KAFKA_LISTENERS"] == f"PLAINTEXT://:{port},CONTROLLER://:9093"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_a_container_that_never_answers_is_removed_and_its_log_told(
    tool: Tool, tmp_path: Path
) -> None:
    tool("docker", RECORDING + 'if "logs" in sys.argv: print("out of memory")')

    with pytest.raises(KafkaBrokerError, match=r"(?s)not ready in 0\.1 seconds.*out of memory"):
        ComposeKafka(start_timeout=0.1).start()

    assert "down --volumes" in (tmp_path / "calls").read_text().splitlines()[-1]


def test_a_container_that_cannot_be_started_says_why(tool: Tool) -> None:
    tool("docker", 'if "up" in sys.argv: sys.exit("no such image")')

    with pytest.raises(KafkaBrokerError, match="docker compose up failed: no such image"):
        ComposeKafka().start()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('sys.exit("info" in sys.argv)', "no docker engine answers"),
        ('import signal; "info" in sys.argv and signal.pause()', "no docker engine answers"),
        ('sys.exit("compose" in sys.argv)', "docker has no compose command"),
    ],
)
def test_docker_is_of_no_use_without_an_engine_or_without_compose(
    tool: Tool, body: str, reason: str
) -> None:
    tool("docker", body)

    with pytest.raises(KafkaUnavailableError, match=reason):
        check_docker(timeout=1)

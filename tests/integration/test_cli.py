"""The command `kafkaesk`, as a process: S14, S15, C1, exit codes, signals, plugins."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SERVICE = """
import asyncio, logging
import kafkaesk_core
from pydantic import BaseModel

app = kafkaesk_core.Application()

@app.schema("Content", streams=["content.a"])
class Content(BaseModel):
    foo: str

@app.subscribe("content.*", "readers")
async def handle(data: Content) -> None:
    print("handling", data.foo, flush=True)
    if data.foo == "slow":
        await asyncio.sleep(1)
    if data.foo == "bad":
        raise ValueError("no")
    print("handled", data.foo, flush=True)

async def publish() -> None:
    await app.publish("content.a", Content(foo=WORD))

app.on("initialize", publish)
"""


def service(folder: Path, word: str = "good") -> Path:
    (folder / "service.py").write_text(f"WORD = {word!r}\n{SERVICE}")
    return folder


class Kafkaesk:
    """One run of the command, its output in a file."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._output = folder / "output"
        self._file = self._output.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kafkaesk_core", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=self._file,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str, limit: float = 20) -> None:
        deadline = time.monotonic() + limit
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, f"no {text!r} in: {self.output}"
            time.sleep(0.02)

    def end(self, number: signal.Signals | None = None, limit: float = 20) -> int:
        if number is not None:
            self.process.send_signal(number)
        try:
            return self.process.wait(limit)
        finally:
            self.process.kill()
            self.process.wait()
            self._file.close()


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    command = Kafkaesk(folder, *arguments, **environment)
    code = command.end()
    return code, command.output


def kafka_arguments(kafka: Any, word: str) -> list[str]:
    return [
        "service:app",
        f"--kafka-servers={','.join(kafka.servers)}",
        '--kafka-settings={"heartbeat_interval_ms": 300}',
        f"--topic-prefix=cli-{word}-{os.getpid()}.",
        "--replication-factor=1",
    ]


def test_help_groups_options_with_defaults_and_environment_names(tmp_path: Path) -> None:
    code, output = run(tmp_path, "--help")

    assert code == 0
    for text in ("Kafka:", "Consuming:", "Logging:", "Exit codes:", "plugins"):
        assert text in output
    assert "KAFKAESK_KAFKA_SERVERS" in output
    assert "5000" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_s14_a_signal_finishes_what_runs_commits_and_exits_with_0(
    kafka: Any, tmp_path: Path, number: signal.Signals
) -> None:
    command = Kafkaesk(service(tmp_path, "slow"), *kafka_arguments(kafka, number.name))
    command.wait_for("handling slow")

    code = command.end(number)

    assert code == 0, command.output
    assert "handled slow" in command.output
    again = Kafkaesk(
        service(tmp_path, "second"), *kafka_arguments(kafka, number.name), PYTHONUNBUFFERED="1"
    )
    again.wait_for("handled second")
    assert again.end(signal.SIGTERM) == 0
    assert "slow" not in again.output.split("handling")[1]


def test_s14_start_and_stop_lines_name_servers_groups_and_partitions(
    kafka: Any, tmp_path: Path
) -> None:
    command = Kafkaesk(service(tmp_path), *kafka_arguments(kafka, "lines"))
    command.wait_for("handled good")
    command.end(signal.SIGTERM)

    for text in (*kafka.servers, "readers", "content.*", "assigned", "content.a[", "SIGTERM"):
        assert text in command.output, text


def test_a_second_signal_exits_now(kafka: Any, tmp_path: Path) -> None:
    command = Kafkaesk(service(tmp_path, "slow"), *kafka_arguments(kafka, "twice"))
    command.wait_for("handling slow")
    command.process.send_signal(signal.SIGTERM)
    command.wait_for("once more to exit now")

    code = command.end(signal.SIGTERM, limit=0.9)

    assert code == 128 + signal.SIGTERM
    assert "handled slow" not in command.output


def test_a_failing_handler_exits_with_1_and_names_the_record(kafka: Any, tmp_path: Path) -> None:
    code, output = run(service(tmp_path, "bad"), *kafka_arguments(kafka, "bad"))

    assert code == 1
    for text in ("content.a[", "]@0", "group readers", "Content:1", "ValueError: no"):
        assert text in output, text


def test_s15_the_command_line_wins_over_the_environment(kafka: Any, tmp_path: Path) -> None:
    command = Kafkaesk(
        service(tmp_path),
        *kafka_arguments(kafka, "precedence"),
        KAFKAESK_KAFKA_SERVERS="localhost:1",
        KAFKAESK_LOG_FORMAT="json",
    )
    command.wait_for("handled good")
    command.end(signal.SIGTERM)

    logged = [line for line in command.output.splitlines() if line.startswith("{")]
    assert {"timestamp", "level", "logger", "message"} <= set(json.loads(logged[0]))


def test_an_unreachable_broker_is_one_clear_line_and_exit_3(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{taken.getsockname()[1]}"
    started = time.monotonic()

    code, output = run(
        service(tmp_path), "service:app", f"--kafka-servers={server}", "--start-timeout=2"
    )

    assert code == 3
    assert time.monotonic() - started < 10
    told = [line for line in output.splitlines() if server in line]
    assert len(told) == 2, output  # trying, and given up
    assert "refused" in told[-1]
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["service:app"], "no Kafka servers"),
        (["service:app", "--kafka-servers=nonsense"], "host:port"),
        (["service:app", "--kafka-servers=x://y"], "scheme"),
        (["service:app", "--kafka-servers=a:1", "--kafka-settings=no"], "JSON"),
        (["service:app", "--kafka-servers=a:1", '--kafka-settings={"linger": 1}'], "linger_ms"),
        (["service:nothing"], "no attribute 'nothing'"),
        (["service:Content"], "not an Application"),
        (["nowhere:app"], "no module 'nowhere'"),
        (["unknown"], "no command and no application"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    code, output = run(service(tmp_path), *arguments)

    assert code == 2, output
    assert told in output
    assert "Traceback" not in output


THIRD_PARTY = """
from kafkaesk_core import hookimpl


class Shout:
    @hookimpl
    async def wrap_publish(self, message, call_next):
        message.data = type(message.data)(foo=message.data.foo.upper())
        return await call_next(message)

    @hookimpl
    async def wrap_consume(self, message, call_next):
        return await call_next(message)
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "shout"
version = "1.2"

[project.entry-points."kafkaesk.plugins"]
shout = "shout:Shout"

[project.entry-points."kafkaesk.apps"]
shop = "service:app"

[tool.hatch.build.targets.wheel]
include = ["shout.py"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A third-party distribution, built and installed beside the environment."""
    project = tmp_path_factory.mktemp("project")
    (project / "shout.py").write_text(THIRD_PARTY)
    (project / "pyproject.toml").write_text(PROJECT)
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--target", str(target), str(project)], check=True
    )
    return str(target)


def test_an_installed_plugin_acts_without_a_change_to_the_service(
    kafka: Any, tmp_path: Path, site: str
) -> None:
    """C1: and the service runs by its name."""
    arguments = ["shop", *kafka_arguments(kafka, "installed")[1:]]

    command = Kafkaesk(service(tmp_path), *arguments, PYTHONPATH=site)
    command.wait_for("handled GOOD")

    assert command.end(signal.SIGTERM) == 0
    assert "shout" in command.output  # the start line names the plugins


def test_plugins_are_listed_with_their_package_and_state(tmp_path: Path, site: str) -> None:
    code, table = run(
        service(tmp_path), "plugins", "service:app", "--chain", PYTHONPATH=f"{site}:{tmp_path}"
    )

    assert code == 0, table
    assert "NAME" in table
    assert "1.2" in table
    assert "shout (shout:Shout)" in table
    assert "wrap_consume (readers): shout > decode > service.handle" in table


def test_a_disabled_plugin_is_listed_and_does_not_act(tmp_path: Path, site: str) -> None:
    code, listed = run(
        tmp_path, "plugins", "--json", PYTHONPATH=site, KAFKAESK_DISABLE_PLUGINS="shout"
    )

    assert code == 0, listed
    (info,) = json.loads(listed)["plugins"]
    assert (info["name"], info["status"]) == ("shout", "disabled")
    assert "KAFKAESK_DISABLE_PLUGINS" in info["reason"]


def test_a_broken_plugin_stops_the_start_and_says_how_to_go_on(tmp_path: Path, site: str) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in Path(site).iterdir():
        if path.name.endswith(".dist-info"):
            copied = broken / path.name
            copied.mkdir()
            for file in path.iterdir():
                if file.is_file():
                    (copied / file.name).write_bytes(file.read_bytes())
    (broken / "shout.py").write_text("raise RuntimeError('not today')")

    code, output = run(
        service(tmp_path), "service:app", "--kafka-servers=a:1", PYTHONPATH=str(broken)
    )

    assert code == 4, output
    for text in ("shout", "1.2", "not today", "KAFKAESK_DISABLE_PLUGINS=shout"):
        assert text in output, text

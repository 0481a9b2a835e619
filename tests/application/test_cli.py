"""The command `kafkaesk`, as a process: S14, S15, C1, exit codes, signals, plugins."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafkaesk_core.process import ECHO
from tests.programs import Program, kafkaesk

SERVICE = """
import asyncio, os
import kafkaesk_core
from pydantic import BaseModel

app = kafkaesk_core.Application()

@app.schema("Content", streams=["content.a"])
class Content(BaseModel):
    foo: str

@app.subscribe("content.*", os.environ.get("GROUP", "readers"))
async def handle(data: Content) -> None:
    print("handling", data.foo, flush=True)
    if data.foo == "slow":
        await asyncio.sleep(1)
    if data.foo == "bad":
        raise ValueError("no")
    print("handled", data.foo, flush=True)

async def publish() -> None:
    await app.publish("content.a", Content(foo=os.environ.get("WORD", "good")))

app.on("initialize", publish)
"""


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start commands; whatever still runs at the end is killed."""
    (tmp_path / "service.py").write_text(SERVICE)
    commands: list[Program] = []
    group = f"readers-{os.urandom(4).hex()}"  # a broker may outlive the tests

    def start(*arguments: str, **environment: str) -> Program:
        commands.append(kafkaesk(*arguments, folder=tmp_path, **{"GROUP": group, **environment}))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()


def run(start: Start, *arguments: str, **environment: str) -> tuple[int, str]:
    command = start(*arguments, **environment)
    return command.end(), command.printed


def kafka_arguments(kafka: Any, word: str) -> list[str]:
    return [
        "service:app",
        f"--kafka-servers={','.join(kafka.servers)}",
        '--kafka-settings={"heartbeat_interval_ms": 300}',
        f"--topic-prefix=cli-{word}-{os.getpid()}.",
        "--replication-factor=1",
    ]


def test_help_groups_options_with_defaults_and_environment_names(start: Start) -> None:
    code, output = run(start, "--help")

    assert code == 0
    for text in ("Kafka:", "Consuming:", "Logging:", "Exit codes:", "plugins"):
        assert text in output
    assert "KAFKAESK_KAFKA_SERVERS" in output
    assert "5000" in output


@pytest.mark.s14
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_runs_commits_and_exits_with_0(
    kafka: Any, start: Start, number: signal.Signals
) -> None:
    command = start(*kafka_arguments(kafka, number.name), WORD="slow")
    command.wait_for("handling slow")

    code = command.end(number)

    assert code == 0, command.printed
    assert "handled slow" in command.printed
    again = start(*kafka_arguments(kafka, number.name), WORD="second")
    again.wait_for("handled second")
    assert again.end(signal.SIGTERM) == 0
    assert "slow" not in again.printed.split("handling")[1]


@pytest.mark.s14
def test_start_and_stop_lines_name_servers_groups_and_partitions(kafka: Any, start: Start) -> None:
    command = start(*kafka_arguments(kafka, "lines"))
    command.wait_for("handled good")
    command.end(signal.SIGTERM)

    for text in (
        *kafka.servers,
        "group readers-",
        "content.*",
        "assigned",
        "content.a[",
        "SIGTERM",
    ):
        assert text in command.printed, text


def test_a_second_signal_exits_now(kafka: Any, start: Start) -> None:
    command = start(*kafka_arguments(kafka, "twice"), WORD="slow")
    command.wait_for("handling slow")
    command.process.send_signal(signal.SIGTERM)
    command.wait_for("send it again to exit now")
    time.sleep(ECHO)

    code = command.end(signal.SIGTERM, within=0.9)

    assert code == 128 + signal.SIGTERM
    assert "handled slow" not in command.printed


def test_a_signal_that_comes_by_two_ways_is_one(kafka: Any, start: Start) -> None:
    command = start(*kafka_arguments(kafka, "echo"), WORD="slow")
    command.wait_for("handling slow")
    command.process.send_signal(signal.SIGINT)

    code = command.end(signal.SIGTERM)

    assert code == 0, command.printed
    assert "handled slow" in command.printed


def test_a_failing_handler_exits_with_1_and_names_the_record(kafka: Any, start: Start) -> None:
    code, output = run(start, *kafka_arguments(kafka, "bad"), WORD="bad")

    assert code == 1
    for text in ("content.a[", "]@0", "group readers-", "Content:1", "ValueError: no"):
        assert text in output, text
    for text in ("will be redelivered after a restart", "Traceback", 'raise ValueError("no")'):
        assert output.count(text) == 1, "one failure is one line, with its traceback"


@pytest.mark.s15
def test_the_command_line_wins_over_the_environment(kafka: Any, start: Start) -> None:
    command = start(
        *kafka_arguments(kafka, "precedence"),
        KAFKAESK_KAFKA_SERVERS="localhost:1",
        KAFKAESK_LOG_FORMAT="json",
    )
    command.wait_for("handled good")
    command.end(signal.SIGTERM)

    logged = [line for line in command.printed.splitlines() if line.startswith("{")]
    assert {"timestamp", "level", "logger", "message"} <= set(json.loads(logged[0]))


def test_an_unreachable_broker_is_one_clear_line_and_exit_3(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{taken.getsockname()[1]}"
    started = time.monotonic()

    code, output = run(start, "service:app", f"--kafka-servers={server}", "--start-timeout=2")

    assert code == 3
    assert time.monotonic() - started < 10
    told = [line for line in output.splitlines() if server in line]
    assert len(told) == 2, output  # trying, and given up
    assert "refuses the connection" in told[-1]
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
    start: Start, arguments: list[str], told: str
) -> None:
    code, output = run(start, *arguments)

    assert code == 2, output
    assert told in output
    assert "Traceback" not in output


THIRD_PARTY = """
import click
from kafkaesk_core import hookimpl


@click.command()
@click.argument("word")
def say(word):
    click.echo(word.upper())


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

[project.entry-points."kafkaesk.commands"]
say = "shout:say"

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
    command = [
        "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(project),
    ]
    subprocess.run(command, check=True)
    return str(target)


def test_c1_an_installed_plugin_acts_without_a_change_to_the_service(
    kafka: Any, start: Start, site: str
) -> None:
    """And the service runs by its name."""
    arguments = ["shop", *kafka_arguments(kafka, "installed")[1:]]

    command = start(*arguments, PYTHONPATH=site)
    command.wait_for("handled GOOD")

    assert command.end(signal.SIGTERM) == 0
    assert "shout" in command.printed  # the start line names the plugins


def test_the_garbage_collectors_thresholds_are_set(start: Start, tmp_path: Path) -> None:
    (tmp_path / "collected.py").write_text("import gc; raise SystemExit(str(gc.get_threshold()))")

    by_option = run(start, "collected:app", "--gc-thresholds", "5000, 20,20")
    by_variable = run(start, "collected:app", KAFKAESK_GC_THRESHOLDS="9000,5,5")

    assert "(5000, 20, 20)" in by_option[1]
    assert "(9000, 5, 5)" in by_variable[1]


@pytest.mark.parametrize("wrong", ["1,2", "0,1,1", "a,b,c", "", "1,2,3,4", "-1,2,3"])
def test_wrong_thresholds_are_refused_with_an_example(start: Start, wrong: str) -> None:
    code, output = run(start, "service:app", f"--gc-thresholds={wrong}")

    assert code == 2
    assert f"{wrong!r} is not three positive numbers; write 5000,20,20" in output


def test_plugins_are_listed_with_their_package_and_state(
    start: Start, tmp_path: Path, site: str
) -> None:
    code, table = run(start, "plugins", "service:app", "--chain", PYTHONPATH=f"{site}:{tmp_path}")

    assert code == 0, table
    assert "NAME" in table
    assert "1.2" in table
    assert "shout (shout:Shout)" in table
    assert "shout > decode > service.handle" in table


@pytest.mark.d7
def test_an_installed_package_adds_a_command(start: Start, site: str) -> None:
    _, listed = run(start, "--help", PYTHONPATH=site)
    code, output = run(start, "say", "hello", PYTHONPATH=site)

    assert "  say " in listed
    assert (code, output.strip()) == (0, "HELLO")


def test_a_disabled_plugin_is_listed_and_does_not_act(start: Start, site: str) -> None:
    code, listed = run(
        start, "plugins", "--json", PYTHONPATH=site, KAFKAESK_DISABLE_PLUGINS="shout"
    )

    assert code == 0, listed
    plugins = {info["name"]: info for info in json.loads(listed)["plugins"]}
    info = plugins["shout"]
    assert info["status"] == "disabled"
    assert "KAFKAESK_DISABLE_PLUGINS" in info["reason"]


def test_a_broken_plugin_stops_the_start_and_says_how_to_go_on(
    start: Start, tmp_path: Path, site: str
) -> None:
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

    code, output = run(start, "service:app", "--kafka-servers=a:1", PYTHONPATH=str(broken))

    assert code == 4, output
    for text in ("shout", "1.2", "not today", "KAFKAESK_DISABLE_PLUGINS=shout"):
        assert text in output, text

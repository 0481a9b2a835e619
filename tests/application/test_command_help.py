"""What `kafkaesk --help` lists is what there is."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kafkaesk_core import Application
from kafkaesk_core.cli import SETTING_OPTIONS, CommandGroup, cli
from kafkaesk_core.official import COMMANDS_OF
from kafkaesk_core.settings import Settings, Tuning, describe_default
from kafkaesk_tools.reference import setting_options

README = Path(__file__).parents[2] / "README.md"


def help_text() -> str:
    result = CliRunner().invoke(cli, ["--help"], prog_name="kafkaesk")
    assert result.exit_code == 0
    return result.output


def option_of(setting: str) -> str:
    return f"--{setting.replace('_', '-')} "


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_has_an_option_and_a_variable(setting: str) -> None:
    text = help_text()

    assert option_of(setting) in text
    assert f"KAFKAESK_{setting.upper()}" in text


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_the_help_of_an_option_is_the_settings_description(setting: str) -> None:
    text = " ".join(help_text().split())
    field, default = Settings.model_fields[setting], describe_default(setting)

    assert field.description
    assert " ".join(field.description.split()) in text
    assert not default or f"{field.description} Default: {default}." in text


def test_the_options_that_the_command_reads_are_those_of_the_settings() -> None:
    assert SETTING_OPTIONS.read_text() == setting_options(), "run `uv run docs`"


def test_the_readmes_table_is_that_of_the_settings() -> None:
    table = README.read_text().partition("| setting |")[2].partition("\n\n")[0]

    assert table.splitlines()[2:] == [
        f"| `{name}` | {describe_default(name)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]


def test_the_keyword_only_arguments_of_an_application_are_settings() -> None:
    positional = set(inspect.signature(Application.configure).parameters) - {"self", "tuning"}

    assert positional | set(Tuning.__annotations__) == set(Settings.model_fields)
    assert positional.isdisjoint(Tuning.__annotations__)


def test_the_version_and_the_help_line_of_installed_commands_are_listed() -> None:
    text = help_text()

    assert "--version" in text
    assert re.search(r"logs +Read the log lines of a stream\.", text)


def test_a_command_that_cannot_be_loaded_does_not_end_the_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "kafkaesk_broken-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: kafkaesk-broken\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[kafkaesk.commands]\nbroken = no_such_module:command\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert re.search(r"broken +cannot be loaded: ModuleNotFoundError", help_text())


def test_the_help_loads_neither_pydantic_nor_the_kafka_client_nor_the_engine() -> None:
    """They cost more time than all the rest, and a shell asks for each word that it completes."""
    code = (
        "import sys; from click.testing import CliRunner; from kafkaesk_core.cli import cli; "
        "print(CliRunner().invoke(cli, ['--help']).output, *sys.modules, sep='\\n')"
    )

    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout

    assert "Read the log lines of a stream." in printed
    loaded = set(printed.splitlines())
    assert {"click", "kafkaesk_core.entry_points", "kafkaesk_logging"} <= loaded
    assert {"aiokafka", "asyncio", "pydantic"}.isdisjoint(loaded)
    assert {"kafkaesk_core.application", "kafkaesk_logging.fields"}.isdisjoint(loaded)


def test_importing_the_application_leaves_the_engine_to_its_start() -> None:
    code = "import sys; from kafkaesk_core import Application; print(*sys.modules, sep='\\n')"

    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.splitlines()

    assert "kafkaesk_core.router" in loaded
    engine = ("consumer", "publisher", "kafka", "runtime", "scheduler", "cluster")
    found = [one for one in loaded if one.split(".")[:2] in [["kafkaesk_core", e] for e in engine]]
    assert found == []


def test_the_list_of_plugins_loads_neither_the_application_nor_what_plugins_start_with() -> None:
    """A plugin imports at its start what it starts with; each would cost all services time."""
    code = (
        "import sys; from click.testing import CliRunner; from kafkaesk_core.cli import cli; "
        "print(CliRunner().invoke(cli, ['plugins', '--chain']).output, *sys.modules, sep='\\n')"
    )
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("KAFK")}

    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=inherited
    ).stdout

    listed = re.findall(r"^(\S+) .* active ", printed, re.MULTILINE)
    assert {"cloudevents", "compat", "headers", "logging"} <= set(listed)
    assert {"ops", "otel", "retry", "schemas"} <= set(listed)
    loaded = set(printed.splitlines())
    assert {"kafkaesk_core.plugins.manager", "kafkaesk_retry.plugin"} <= loaded
    others = {"aiokafka", "h11", "http.client", "prometheus_client", "pydantic_settings", "rich"}
    assert others.isdisjoint(loaded)
    ours = {"kafkaesk_core.application", "kafkaesk_core.router", "kafkaesk_core.settings"}
    assert ours.isdisjoint(loaded)
    started = {"kafkaesk_logging.handler", "kafkaesk_ops.server", "kafkaesk_retry.recovery"}
    assert started.isdisjoint(loaded)


PLUGINS = Path(__file__).parents[2] / "plugins"


def test_the_packages_and_commands_that_the_core_knows_are_those_that_there_are() -> None:
    found = {}
    for path in PLUGINS.glob("*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        commands = project.get("entry-points", {}).get("kafkaesk.commands", {})
        found[path.parent.name] = tuple(sorted(commands))

    assert found == COMMANDS_OF


@pytest.mark.parametrize("arguments", [["dead", "ls", "shop:app"], ["dead"], ["tail", "--help"]])
def test_a_command_of_a_package_that_is_not_installed_names_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_installed(monkeypatch)
    package = {"dead": "kafkaesk-retry", "tail": "kafkaesk-dev"}[arguments[0]]

    told = CliRunner().invoke(group(), arguments)

    assert told.exit_code == 2
    assert f"'{arguments[0]}' is part of {package}, which is not installed" in told.output
    assert f"pip install {package}" in told.output


def test_an_application_may_be_called_as_a_command_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing_installed(monkeypatch, EntryPoint("dead", "shop:app", "kafkaesk.apps"))

    assert CliRunner().invoke(group(), ["dead"]).output == "runs dead\n"


def group() -> click.Group:
    @click.command()
    @click.argument("app")
    def run(app: str) -> None:
        click.echo(f"runs {app}")

    return CommandGroup(commands={"run": run})


def nothing_installed(monkeypatch: pytest.MonkeyPatch, *found: EntryPoint) -> None:
    """As in an environment where only these entry points are, and none of our packages."""

    def find(group: str, name: str | None = None) -> list[EntryPoint]:
        return [one for one in found if one.group == group and name in (one.name, None)]

    monkeypatch.setattr("kafkaesk_core.cli.find_entry_points", find)

"""What `kafkaesk --help` lists is what there is."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kafkaesk_core import commands
from kafkaesk_core.cli import cli
from kafkaesk_core.settings import Settings

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


def test_every_setting_of_the_readme_is_one() -> None:
    table = README.read_text().partition("| setting |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row[:60])}

    assert len(named) >= 18
    assert named <= set(Settings.model_fields)


def test_the_defaults_that_are_told_are_the_settings_own() -> None:
    run = cli.commands["run"]

    told = {
        option.name: match[1]
        for option in run.params
        if isinstance(option, click.Option)
        if (match := re.search(r"Default: (\d+)\.$", option.help or ""))
    }

    assert len(told) >= 9
    assert {name: float(text) for name, text in told.items()} == {
        name: Settings.model_fields[str(name)].default for name in told
    }


def test_the_version_and_the_help_line_of_installed_commands_are_listed() -> None:
    text = help_text()

    assert "--version" in text
    assert re.search(r"logs +Read the log lines of a stream\.", text)


def test_a_command_that_cannot_be_loaded_does_not_end_the_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = EntryPoint(name="broken", value="no_such_module:command", group=commands.COMMANDS)
    monkeypatch.setattr(
        commands, "entry_points", lambda *, group, name="broken": [broken] if name else []
    )

    assert re.search(r"broken +cannot be loaded: ModuleNotFoundError", help_text())

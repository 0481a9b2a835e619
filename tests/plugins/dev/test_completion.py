"""`kafkaesk completion`: what a shell completes, asked as the shell asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from kafkaesk_core.cli import cli
from kafkaesk_testing import EmbeddedBroker

from .conftest import BIN, Command
from .test_tail import write


def complete(*words: str) -> list[str]:
    """What follows the words; the last one is incomplete."""
    *before, incomplete = words
    shell = ShellComplete(cli, {}, "kafkaesk", "_KAFKAESK_COMPLETE")
    return [item.value for item in shell.get_completions(before, incomplete)]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["publ"], ["publish"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["tail", "x", "--foll"], ["--follow"]),
        (["sho"], ["shop:app"]),
        (["dev", "sho"], ["shop:app"]),
        (["inspect", ""], ["shop:app"]),
        (["lag", "shop"], ["shop:app"]),
        (["shop:app", "--drain"], ["--drain-timeout"]),
        (["tail", "--app", "sh"], ["shop:app"]),
        (["tail", "--app", "shop:app", "pl"], ["plain"]),
        (["publish", "--app", "shop:app", "plain", "--schema", "Ord"], ["Order:1", "Order:2"]),
        (["publish", "--app", "nix:app", ""], []),
        (["publish", "plain", "--schema", ""], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_commands_options_applications_streams_and_schemas_complete(
    words: list[str], completed: list[str], command: Command
) -> None:
    found = complete(*words)

    assert [each for each in found if each in completed] == completed
    assert completed or not found


def test_streams_of_the_cluster_complete_without_an_application(
    command: Command, embedded_kafka: EmbeddedBroker
) -> None:
    write(embedded_kafka, b"{}", topic="orders.placed")

    assert complete("tail", "ord") == ["orders.placed"]
    assert complete("tail", "--kafka-servers", "127.0.0.1:1", "ord") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_code(shell: str) -> None:
    printed = CliRunner().invoke(cli, ["completion", shell])

    assert printed.exit_code == 0
    assert f"_KAFKAESK_COMPLETE={shell}_complete" in printed.output


def test_bash_completes(tmp_path: Path) -> None:
    script = f"""
    PATH={BIN}:$PATH
    eval "$(kafkaesk completion bash)"
    COMP_WORDS=(kafkaesk publ) COMP_CWORD=1
    _kafkaesk_completion kafkaesk
    echo "${{COMPREPLY[@]}}"
    """

    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "publish", done.stderr


def test_another_shell_is_refused() -> None:
    refused = CliRunner().invoke(cli, ["completion", "tcsh"])

    assert refused.exit_code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in refused.output


def test_the_help_of_the_whole_command_imports_no_work_of_these_commands() -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom kafkaesk_core.cli import cli\n"
        "print(CliRunner().invoke(cli, ['--help']).output, *sys.modules, sep='\\n')"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    lines = done.stdout.splitlines()
    assert any(line.split()[:3] == ["tail", "Show", "the"] for line in lines)
    heavy = {"aiokafka", "rich", "watchfiles", "kafkaesk_testing", "kafkaesk_core.application"}
    assert heavy.isdisjoint(lines)

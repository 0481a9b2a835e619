"""`kafkaesk completion`: what a shell completes, asked as the shell asks."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
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
        (["schemas", "check", "sho"], ["shop:app"]),
        (["dead", "ls", "sho"], ["shop:app"]),
        (["logs", "--app", "sho"], ["shop:app"]),
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


SHELLS = {
    "bash": """
        eval "$(kafkaesk completion bash)"
        COMP_WORDS=(kafkaesk publ) COMP_CWORD=1
        _kafkaesk_completion kafkaesk
        echo "${COMPREPLY[@]}"
    """,
    "fish": """
        kafkaesk completion fish | source
        complete --do-complete "kafkaesk publ" | string split --fields 1 \\t
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_completes(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    done = subprocess.run(
        [program, "-c", SHELLS[shell]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["publish"], done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is missing: apt-get install zsh")
def test_zsh_completes_what_is_typed(tmp_path: Path) -> None:
    """It has no way to be asked, so a person types a word and the Tab key on a terminal."""
    setup = """
        PROMPT='ready> '; autoload -Uz compinit; compinit -u -d "$PWD/dump"
        eval "$(kafkaesk completion zsh)"
    """
    (tmp_path / ".zshrc").write_text(setup)
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ZDOTDIR": str(tmp_path),
        "TERM": "dumb",
    }
    shell = subprocess.Popen(
        ["zsh", "-i"], cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)

    def shows(text: str) -> str:
        shown, deadline = "", time.monotonic() + 60
        while text not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 10_000).decode()
        return shown

    try:
        shows("ready> ")
        os.write(ours, b"kafkaesk publ\t")
        shows("kafkaesk publish")
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


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

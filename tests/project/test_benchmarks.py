"""`uv run bench`: its subcommands, without a measurement."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUBCOMMANDS = ["clients", "logging", "plugins", "profile"]


def printed(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_has_a_help_of_its_own(name: str) -> None:
    assert printed(name, "--help").startswith(f"usage: bench {name} ")


def test_the_help_lists_the_subcommands() -> None:
    lines = [line for line in printed("--help").splitlines() if line.startswith("  bench ")]

    assert [line.split()[1] for line in lines] == SUBCOMMANDS

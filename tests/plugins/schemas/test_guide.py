"""The guide "Keep a contract": each command prints what the page says, in the order of the page."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kafkaesk_schemas.command import schemas

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/guides/contracts.md").read_text()
STEP = re.compile(
    r"<!-- (?P<kind>file|append|change|command)"
    r"(?:: (?P<file>\S+?)(?:, (?P<change>[^>]+? -> .+?))?)? -->"
    r"(?:\n```\w+\n(?P<text>.*?)```)?",
    re.DOTALL,
)


def test_the_commands_of_the_guide_print_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    shop = tmp_path / "shop.py"
    commands = 0

    for step in STEP.finditer(GUIDE):
        text = step["text"] or ""
        if step["kind"] == "file":
            shop.write_text(text)
        elif step["kind"] == "append":
            shop.write_text(shop.read_text() + "\n\n" + text)
        elif step["kind"] == "change":
            old, new = step["change"].replace("\\n", "\n").split(" -> ")
            assert old in shop.read_text()
            shop.write_text(shop.read_text().replace(old, new))
        else:
            commands += 1
            assert output_of(text.splitlines()[0]) == text.partition("\n")[2]

    sys.modules.pop("shop", None)
    assert commands == GUIDE.count("```console") == 5


def output_of(line: str) -> str:
    """What a command prints; the service is imported anew."""
    sys.modules.pop("shop", None)
    importlib.invalidate_caches()
    words = line.removeprefix("$ kafkaesk schemas ").split()
    return CliRunner().invoke(schemas, words).output

"""The rules of the engine, and the tests that cite them by number."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["cited_in", "citing_tests", "rules"]

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "rules.md"
HEADING = "## Rules of the engine"


def rules() -> dict[int, str]:
    """What docs/rules.md says of each rule; several may share a text."""
    section = DOCUMENT.read_text().partition(HEADING)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d[\d, -]*) \| (.+) \|$", section, re.MULTILINE)
    return {number: text for numbers, text in rows for number in _numbers(numbers)}


def _numbers(told: str) -> Iterator[int]:
    """Those of "13-16", or of "21, 22"."""
    for part in told.split(","):
        first, _, last = part.strip().partition("-")
        yield from range(int(first), int(last or first) + 1)


@cache
def citing_tests() -> dict[int, list[str]]:
    """The tests that cite each rule, as "path::name"; parameters are not told apart."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_"):
                name = f"{path.relative_to(TESTS.parent)}::{node.name}"
                for rule in set(cited_in(node.name, ast.get_docstring(node) or "")):
                    found[rule].append(name)
    return dict(found)


def cited_in(name: str, text: str) -> Iterator[int]:
    """In a test's name (`test_rule_9_...`) or in the text below it ("Rules 9, 18")."""
    yield from map(int, re.findall(r"_rule_(\d+)_", name))
    for numbers in re.findall(r"\b[Rr]ules? (\d+(?:(?:, | and )\d+)*)", text):
        yield from map(int, re.findall(r"\d+", numbers))

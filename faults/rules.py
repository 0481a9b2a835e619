"""The rules of the engine, and the tests that are marked with them (`@pytest.mark.rule_18`)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["citing_tests", "fast_tests", "marked_tests", "rules"]

TESTS = Path(__file__).parents[1] / "tests"
DOCUMENT = TESTS.parent / "docs" / "rules.md"
HEADING = "## Rules of the engine"
BROKERS = {"broker", "kafka", "kafka_cluster", "kafka_jars", "kafkaesk_app", "secured"}
"""Fixtures that start real Apache Kafka, or find it."""


def rules() -> dict[int, str]:
    """Return the text of each rule in docs/rules.md; several rules may share a text."""
    section = DOCUMENT.read_text().partition(HEADING)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d[\d, -]*) \| (.+) \|$", section, re.MULTILINE)
    return {number: text for numbers, text in rows for number in _numbers(numbers)}


def _numbers(told: str) -> Iterator[int]:
    """Return the numbers in "13-16" or "21, 22"."""
    for part in told.split(","):
        first, _, last = part.strip().partition("-")
        yield from range(int(first), int(last or first) + 1)


def citing_tests(rule: int) -> list[str]:
    """Return the tests of a rule, as "path::name", without parameters."""
    return [test.name for test in marked_tests().get(f"rule_{rule}", ())]


def fast_tests(rule: int) -> list[str]:
    """Return the tests of a rule that need no broker; if there are none, return all."""
    tests = marked_tests().get(f"rule_{rule}", ())
    return [test.name for test in tests if not test.needs_broker] or citing_tests(rule)


@dataclass(frozen=True, slots=True)
class MarkedTest:
    """A test, as "path::name"."""

    name: str
    needs_broker: bool


@cache
def marked_tests() -> dict[str, list[MarkedTest]]:
    """Return the tests by marker: `rule_18`, `f12`."""
    found: dict[str, list[MarkedTest]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "pytest.mark." not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            fixtures = {argument.arg for argument in node.args.args}
            name = f"{path.relative_to(TESTS.parent)}::{node.name}"
            test = MarkedTest(name, bool(fixtures & BROKERS))
            for decorator in node.decorator_list:
                source = ast.unparse(decorator)
                if source.startswith("pytest.mark."):
                    found[source.removeprefix("pytest.mark.")].append(test)
    return dict(found)

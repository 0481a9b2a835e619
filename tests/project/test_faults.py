"""Every fault of the list is played, and every rule of the engine is shown, by name or number."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import rows
from tests.faults.soak import SOAK

TESTS = Path(__file__).parents[1]
LAST_ROW, LAST_RULE = 51, 41
PUT_OFF = {7, 12, 28}
"""Rules that the engine does not promise yet: tail gaps, maps of offsets, dead letters."""


def test_the_list_of_faults_is_whole() -> None:
    assert {*rows.ROWS, *rows.ELSEWHERE} == {f"F{number}" for number in range(1, LAST_ROW + 1)}


@pytest.mark.parametrize("row", rows.ROWS)
def test_every_fault_is_played(row: str) -> None:
    """As a scenario, as the soak, or as a test with the row in its name."""
    assert rows.scenarios_of(row) or row == SOAK.row or rows.tests_of(row), f"nothing plays {row}"


@pytest.fixture(scope="module")
def cited() -> set[int]:
    functions = (
        node
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    tests = [function for function in functions if function.name.startswith("test_")]
    return {rule for test in tests for rule in _rules_in(test.name, ast.get_docstring(test) or "")}


@pytest.mark.parametrize("rule", sorted({*range(1, LAST_RULE + 1)} - PUT_OFF))
def test_every_rule_is_cited_by_a_test(rule: int, cited: set[int]) -> None:
    """In its name (`test_rule_9_...`) or in the text below it ("Rules 9, 18")."""
    assert rule in cited, f"no test cites rule {rule}"


def _rules_in(name: str, text: str) -> Iterator[int]:
    yield from map(int, re.findall(r"_rule_(\d+)_", name))
    for numbers in re.findall(r"\b[Rr]ules? (\d+(?:(?:, | and )\d+)*)", text):
        yield from map(int, re.findall(r"\d+", numbers))


def test_a_rule_is_found_in_a_name_and_in_a_text() -> None:
    cited = _rules_in("test_rule_9_of_a_group", "K63, rule 6: so.\n\nRules 8, 18 and 23; 4 of it.")

    assert list(cited) == [9, 6, 8, 18, 23]

"""Every row of the list of faults is played, and every rule of the engine is cited by a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import rows
from tests.faults.soak import SOAK

TESTS = Path(__file__).parents[1]
RULES = range(1, 42)
PUT_OFF = (7, 12, 28)
CITED = re.compile(r"[Rr]ules? (\d+(?:(?:, | and | to |-)\d+)*)|test_\w*?rule_(\d+)_")


def test_every_row_is_in_the_list() -> None:
    assert sorted([*rows.ROWS, *rows.ELSEWHERE]) == sorted(f"F{n}" for n in range(1, 52))


@pytest.mark.parametrize("row", rows.ROWS)
def test_every_row_is_played_by_a_scenario_or_a_test(row: str) -> None:
    assert rows.scenarios_of(row) or rows.tests_of(row) or row == SOAK.row


def cited(text: str) -> Iterator[int]:
    for words, name in CITED.findall(text):
        if name:
            yield int(name)
            continue
        yield from map(int, re.findall(r"\d+", words))
        for first, last in re.findall(r"(\d+)(?: to |-)(\d+)", words):
            yield from range(int(first), int(last) + 1)


def test_every_rule_is_cited_by_a_test() -> None:
    own = Path(__file__)
    texts = (path.read_text() for path in TESTS.rglob("*.py") if path != own)
    found = {number for text in texts for number in cited(text)}

    assert [rule for rule in RULES if rule not in found and rule not in PUT_OFF] == []

"""Every fault of the list is played, and every rule of the engine is shown, by name or number."""

from __future__ import annotations

import pytest

from faults import rows
from faults.rules import citing_tests, rules
from faults.soak import SOAK

LAST_ROW, LAST_RULE = 53, 41
PUT_OFF = {7, 12, 28}
"""Rules that the engine does not promise yet: tail gaps, maps of offsets, dead letters."""


def test_the_list_of_faults_is_whole() -> None:
    assert {*rows.ROWS, *rows.ELSEWHERE} == {f"F{number}" for number in range(1, LAST_ROW + 1)}


@pytest.mark.parametrize("row", rows.ROWS)
def test_every_fault_is_played(row: str) -> None:
    """As a scenario, as the soak, or as a test with the row in its name."""
    assert rows.scenarios_of(row) or row == SOAK.row or rows.tests_of(row), f"nothing plays {row}"


@pytest.mark.parametrize("rule", sorted({*range(1, LAST_RULE + 1)} - PUT_OFF))
def test_every_rule_is_cited_by_a_test(rule: int) -> None:
    assert citing_tests(rule), f"no test is marked with rule_{rule}"


def test_a_marker_is_found_on_its_test() -> None:
    assert (
        "tests/rebalancing/test_handover.py::test_a_revocation_finishes_what_runs_and_commits_it"
        in (citing_tests(18))
    )


def test_the_document_has_every_rule_that_is_promised() -> None:
    assert set(rules()) == {*range(1, LAST_RULE + 1)} - PUT_OFF

"""The report keeps what a row's fault excuses apart from what nothing excuses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from faults.figures import Figures
from faults.report import headline, report
from faults.scenarios import SCENARIOS, UNSENT
from faults.verdict import Verdict


def figures(row: str, *, handover: int, repeats: str = "") -> Figures:
    verdict = Verdict(sent=10, acked=10, redelivered=handover)
    verdict.redelivered_by = {"handover": handover}
    return Figures(
        row=row,
        title=f"what {row} plays",
        bed="fast",
        library="kafkaesk",
        seed=1,
        rounds=1,
        seconds=1.0,
        workloads={"partition": asdict(verdict)},
        strikes=[],
        pauses={},
        commit_pauses={},
        rebalances=0,
        unexpected_rebalances=0,
        repeats=repeats,
    )


def made(*runs: Figures) -> str:
    return report(runs, (), Path("nowhere"), seed="1", date="today", command="faults")


def test_what_a_row_has_a_reason_for_is_told_with_it_and_not_in_the_headline() -> None:
    runs = figures("F10", handover=41_974, repeats=UNSENT), figures("F2", handover=0)

    text = made(*runs)

    assert "0 redelivered over 0 clean stops" in headline(runs)
    assert f"| F10 | {UNSENT} | 41,974 |" in text
    assert "| all others | none: must be 0 | 0 |" in text
    assert "handover, for a reason of the row 41,974" in text
    assert "handover, without a reason" not in text.replace("handover, without a reason 0", "")


@pytest.mark.parametrize("are", ["killed", "frozen"])
def test_the_longest_stop_without_brokers_is_measured_against_its_gate(are: str) -> None:
    run = figures("F18", handover=0)
    strike = {"kind": f"stopped with brokers {are}", "at": 1_000_000, "until": 24_200_000}
    run.strikes.append(strike)

    assert "| stop with all brokers gone, longest | 25 s | 23.2 s |" in made(run)
    assert "| stop with all brokers gone, longest | 25 s | not run |" in made()


def test_what_has_no_reason_is_in_the_headline_whatever_the_row() -> None:
    """It counted three rows only, whatever the others had repeated."""
    runs = [figures("F12", handover=3)]

    assert "3 redelivered over 0 clean stops" in headline(runs)
    assert "| all others | none: must be 0 | 3 |" in made(*runs)


@pytest.mark.parametrize("may_repeat", [True, False])
def test_a_reason_excuses_what_it_is_for_and_nothing_else(may_repeat: bool) -> None:
    verdict = Verdict(lost=1, redelivered_by={"handover": 2})

    found = verdict.violations(may_repeat=may_repeat)

    assert ("2 handled twice after a handover" in found) is not may_repeat
    assert "1 lost" in found


def test_rows_of_clean_handovers_have_no_excuse() -> None:
    for row in ("F1", "F2", "F3", "F12", "F13", "F14", "F22", "F31", "F33"):
        assert all(not one.limits.repeats for one in SCENARIOS if one.row == row)

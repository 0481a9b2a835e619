"""The quick run touches every rule of the engine."""

from __future__ import annotations

import pytest

from faults.quick import STEPS, Step
from faults.rules import fast_tests, rules

SHOWN = {rule for step in STEPS for rule in step.rules}


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_plays_one_workload_of_a_scenario_that_there_is(step: Step) -> None:
    assert len(step.scenario.workloads) == 1
    assert step.rounds >= 1


@pytest.mark.parametrize("rule", sorted(rules()))
def test_every_rule_is_touched_by_a_step_or_by_the_tests_that_cite_it(rule: int) -> None:
    assert rule in SHOWN or fast_tests(rule)


def test_steps_name_rules_of_the_engine() -> None:
    assert set(rules()) >= SHOWN


def test_the_rules_are_those_of_the_document() -> None:
    told = rules()

    assert sorted(told)[0] == 1
    assert "watermark" in told[1]
    assert "shutdown_timeout" in told[34]

"""The scenarios that run in seconds, with few rounds; all of them: `uv run faults`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kafkaesk_testing import KafkaCluster

from .scenario import Scenario, play, play_on
from .scenarios import SCENARIOS
from .stage import entered

QUICK = [scenario for scenario in SCENARIOS if scenario.quick]
SEED = 1
BUSY = 4
"""A machine that runs other tests, or others' work, may pause so many times longer."""


def timed_loosely(scenario: Scenario) -> Scenario:
    limits = scenario.limits
    pause = None if limits.pause is None else BUSY * limits.pause
    commit_pause = None if limits.commit_pause is None else BUSY * limits.commit_pause
    return replace(scenario, limits=replace(limits, pause=pause, commit_pause=commit_pause))


def name_of(scenario: Scenario) -> str:
    return f"{scenario.row} {scenario.title}"


@pytest.mark.parametrize("scenario", [s for s in QUICK if s.bed == "fast"], ids=name_of)
async def test_what_a_scenario_promises_is_kept(
    scenario: Scenario, kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """F1, F2, F3 and F12: see scenarios.py."""
    async with entered(kafka_cluster, tmp_path, SEED) as stage:
        loosely = timed_loosely(scenario)
        outcome = await play_on(stage, loosely, seed=SEED, rounds=scenario.quick)

    assert outcome.problems == []
    assert len(outcome.strikes) >= scenario.quick


@pytest.mark.usefixtures("kafka_jars")
@pytest.mark.parametrize("scenario", [s for s in QUICK if s.bed == "proxy"], ids=name_of)
async def test_what_a_scenario_behind_a_proxy_promises_is_kept(
    scenario: Scenario, tmp_path: Path
) -> None:
    """F22."""
    outcome = await play(timed_loosely(scenario), tmp_path, seed=SEED, rounds=scenario.quick)

    assert outcome.problems == []
    assert len(outcome.strikes) >= scenario.quick

"""The scenarios that run in seconds, with few rounds; all of them: `uv run faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafkaesk_testing import KafkaCluster

from .scenario import Scenario, play, play_on
from .scenarios import SCENARIOS
from .stage import entered

QUICK = [scenario for scenario in SCENARIOS if scenario.quick]
SEED = 1


def name_of(scenario: Scenario) -> str:
    return f"{scenario.row} {scenario.title}"


@pytest.mark.parametrize("scenario", [s for s in QUICK if s.bed == "fast"], ids=name_of)
async def test_what_a_scenario_promises_is_kept(
    scenario: Scenario, kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """F1, F2, F3, F12, F13 in each ordering mode: see scenarios.py."""
    async with entered(kafka_cluster, tmp_path, SEED) as stage:
        outcome = await play_on(stage, scenario, seed=SEED, rounds=scenario.quick)

    assert outcome.problems == []
    assert len(outcome.strikes) >= scenario.quick


@pytest.mark.usefixtures("kafka_jars")
@pytest.mark.parametrize("scenario", [s for s in QUICK if s.bed == "proxy"], ids=name_of)
async def test_what_a_scenario_behind_a_proxy_promises_is_kept(
    scenario: Scenario, tmp_path: Path
) -> None:
    """F22."""
    outcome = await play(scenario, tmp_path, seed=SEED, rounds=scenario.quick)

    assert outcome.problems == []
    assert len(outcome.strikes) >= scenario.quick

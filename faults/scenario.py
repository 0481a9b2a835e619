"""A scenario: faults on a bed with workloads, as data; plays it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from .evidence import Evidence
from .fault import Fault
from .journal import events
from .judge import judged
from .log import read_log
from .pace import commit_pauses, handling_pauses
from .process import NoProgressError
from .stage import Bed, Stage, Strike, opened
from .verdict import Verdict
from .workload import Workload

__all__ = ["Limits", "Outcome", "Scenario", "play", "play_on", "strike_in_turn"]


Drive = Callable[[Stage, "Scenario", int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Additional limits of a run, in seconds; with None, the value is only reported.

    `repeats` says why records may be handled again after a handover; "" allows no repeats.
    """

    pause: float | None = None
    commit_pause: float | None = None
    unexpected_rebalances: int | None = None
    repeats: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The `faults` strike one after the other, `rounds` times, with progress in between.

    `quick` is the number of rounds in the suite that every change runs; 0 leaves the scenario out.
    `records` is the number of records handled between two faults.
    """

    row: str
    title: str
    bed: Bed
    workloads: tuple[Workload, ...]
    faults: tuple[Fault, ...]
    rounds: int = 1
    quick: int = 0
    records: int = 200
    limits: Limits = Limits()

    @property
    def name(self) -> str:
        """The row, with the bed if the row is played on several beds."""
        return f"{self.row} {self.bed}"


@dataclass(slots=True)
class Outcome:
    """The outcome of one run of a scenario."""

    scenario: Scenario
    seed: int
    rounds: int
    seconds: float = 0.0
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    strikes: list[Strike] = field(default_factory=list)
    pauses: dict[str, list[float]] = field(default_factory=dict)
    commit_pauses: dict[str, list[float]] = field(default_factory=dict)
    rebalances: int = 0
    unexpected_rebalances: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether there are no violations."""
        return not self.problems


async def strike_in_turn(stage: Stage, scenario: Scenario, rounds: int) -> None:
    """Let every fault strike, one after the other, with progress in between.

    Raises:
        AssertionError: a fault did not strike, or its expected effect did not follow.
    """
    for _ in range(rounds):
        for fault in scenario.faults:
            before = len(stage.strikes)
            await fault.strike(stage)
            assert len(stage.strikes) > before, f"{fault} did not fire"
            await stage.progress(scenario.records)


async def play(
    scenario: Scenario, folder: Path, *, seed: int, rounds: int, drive: Drive = strike_in_turn
) -> Outcome:
    """Run a scenario on its own brokers, and judge it."""
    began = time.monotonic()
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with opened(scenario.bed, folder, seed) as stage:
        outcome = await play_on(stage, scenario, seed=seed, rounds=rounds, drive=drive)
    outcome.seconds = time.monotonic() - began
    return outcome


async def play_on(
    stage: Stage, scenario: Scenario, *, seed: int, rounds: int, drive: Drive = strike_in_turn
) -> Outcome:
    """Run a scenario and judge it; violations are in the outcome, and not raised."""
    outcome = Outcome(scenario, seed, rounds)
    try:
        await asyncio.gather(*(stage.enter(workload) for workload in scenario.workloads))
        await drive(stage, scenario, rounds)
    except (NoProgressError, AssertionError, TimeoutError) as error:
        outcome.problems.append(f"{type(error).__name__}: {error}")
    await _end(stage, outcome)
    await _judge(stage, outcome)
    return outcome


async def _end(stage: Stage, outcome: Outcome) -> None:
    """Let everything run, handle the remaining records, and end the members gracefully."""
    try:
        await stage.heal()
        await asyncio.gather(*(stage.finish(crew) for crew in stage.crews))
        outcome.unexpected_rebalances = _unexpected(stage)
        await asyncio.gather(*(crew.leave() for crew in stage.crews))
    except (NoProgressError, AssertionError, TimeoutError) as error:
        outcome.problems.append(f"{type(error).__name__}: {error}")
        for crew in stage.crews:
            crew.kill()
    for crew in stage.crews:
        for member in crew.members:
            if member.ended_by is not None and member.exit_code not in (0, -member.ended_by):
                outcome.problems.append(f"{member.name} exited with {member.exit_code}")


async def _judge(stage: Stage, outcome: Outcome) -> None:
    limits = outcome.scenario.limits
    outcome.strikes = stage.strikes
    for crew in stage.crews:
        evidence = Evidence(crew)
        letters = crew.dead_letters if crew.workload.dying else ""
        log = await read_log(stage.cluster.servers, crew.topics, crew.group, letters=letters)
        verdict = judged(evidence, log)
        verdict.ended = crew.ended
        outcome.verdicts[crew.workload.name] = verdict
        outcome.problems += [
            f"{crew.workload.name}: {violation}"
            for violation in verdict.violations(may_repeat=bool(limits.repeats))
        ]
        _note_pauses(outcome, evidence, crew.topic)
        outcome.rebalances += verdict.rebalances
    allowed = limits.unexpected_rebalances
    if allowed is not None and outcome.unexpected_rebalances > allowed:
        outcome.problems.append(f"{outcome.unexpected_rebalances} unexpected rebalances")
    for kind, figures, limit in (
        ("handling", outcome.pauses, limits.pause),
        ("committing", outcome.commit_pauses, limits.commit_pause),
    ):
        longest = max((seconds for all_ in figures.values() for seconds in all_), default=0.0)
        if limit is not None and longest > limit:
            outcome.problems.append(f"{kind} paused for {longest:.1f} s, more than {limit:g} s")


def _note_pauses(outcome: Outcome, evidence: Evidence, topic: str) -> None:
    strikes = [strike for strike in outcome.strikes if strike.topic in ("", topic)]
    for pauses, noted in (
        (handling_pauses(evidence, strikes), outcome.pauses),
        (commit_pauses(evidence, strikes), outcome.commit_pauses),
    ):
        for strike, seconds in pauses:
            noted.setdefault(strike.kind, []).append(round(seconds, 3))


def _unexpected(stage: Stage) -> int:
    """Count assignments since the first strike, if no member joined or left."""
    if not stage.strikes or any(strike.moves_partitions for strike in stage.strikes):
        return 0
    since = stage.strikes[0].at
    journals = (events(member.journal) for crew in stage.crews for member in crew.members)
    return sum(event.kind == "assigned" and event.at > since for told in journals for event in told)

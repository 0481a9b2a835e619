"""`uv run faults --quick`: checks every rule of the engine in some minutes, on shared brokers.

Use it after each step of a larger change. It plays scenarios with few rounds and one workload each,
and runs the tests of rules that no scenario can show.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kafkaesk_testing import KafkaCluster

from .rules import fast_tests, rules
from .scenario import Outcome, Scenario, play_on
from .scenarios import SCENARIOS
from .stage import brokers_of, entered, proxy_of

__all__ = ["STEPS", "Step", "play_quickly", "timed_loosely"]

LIMIT = 600.0
"""Seconds for the whole run."""

BUSY = 4
"""The factor for pauses on a machine that also runs other work."""

RATE = 200
"""The maximum of records per second, which a busy machine can handle."""


@dataclass(frozen=True, slots=True)
class Step:
    """A scenario by row and title, with one of its workloads, and the rules that it checks."""

    row: str
    title: str
    rules: tuple[int, ...]
    workload: int = 0
    rounds: int = 1

    @property
    def scenario(self) -> Scenario:
        """The scenario to play."""
        (found,) = (one for one in SCENARIOS if (one.row, one.title) == (self.row, self.title))
        workload = found.workloads[self.workload]
        workload = replace(workload, rate=min(workload.rate, RATE))
        return replace(timed_loosely(found), workloads=(workload,))

    def __str__(self) -> str:
        return f"{self.row} {self.title}"


STEPS = (
    Step("F1", "members killed", (1, 10, 20, 23), rounds=2),
    Step("F2", "members stopped", (5, 8, 18, 34, 35), workload=1),
    Step("F8", "commits refused", (2, 4, 15), workload=2),
    Step("F9", "commits answered by another broker", (6,), workload=2),
    Step("F14", "leader killed", (36,), workload=1),
    Step("F16", "produce answers lost", (36, 38)),
    Step("F23", "members frozen past their session", (3, 21), workload=1),
    Step("F24", "event loop blocked past the session", (18,)),
    Step("F25", "owner killed after others stood by", (24,)),
    Step("F26", "one slow record", (11, 13, 32)),
    Step("F27", "order of keys, retries, rebalances", (14, 16)),
    Step("F28", "poison", (26, 27, 29), workload=2),
    Step("F31", "new topics of a group that starts at the end, members join", (9, 25)),
    Step("F38", "the log ends in markers of transactions", (1, 9), workload=1),
    Step("F52", "members come and go, handlers commit", (17, 18)),
    Step("F53", "a member stopped while its join waits", (35,), workload=2),
)


def timed_loosely(scenario: Scenario) -> Scenario:
    """Return the scenario with looser time limits, for a shared machine."""
    limits = scenario.limits
    pause = None if limits.pause is None else BUSY * limits.pause
    commit_pause = None if limits.commit_pause is None else BUSY * limits.commit_pause
    return replace(scenario, limits=replace(limits, pause=pause, commit_pause=commit_pause))


def play_quickly(seed: int, say: Callable[[str], None]) -> list[str]:
    """Play the steps, run the tests, report the checks of each rule; return the violations."""
    began = time.monotonic()
    touched: dict[int, list[str]] = {rule: [] for rule in rules()}
    cluster, ports = brokers_of("proxy")
    with cluster:
        problems = []
        for step in STEPS:
            outcome = asyncio.run(_play(step, cluster, ports, seed))
            problems += [f"{step}: {problem}" for problem in outcome.problems]
            say(f"{step}, {outcome.seconds:.0f} s: " + ("; ".join(outcome.problems) or "passed"))
            for rule in step.rules if outcome.strikes else ():
                touched[rule].append(str(step))
        missing = [rule for rule, by in touched.items() if not by]
        problems += _run_tests(
            {rule: fast_tests(rule) for rule in missing}, touched, cluster.servers, say
        )
    for rule, text in rules().items():
        say(f"rule {rule}: {text} TOUCHED BY: {', '.join(touched[rule]) or 'NOTHING'}")
    problems += [f"nothing touched rule {rule}" for rule, by in touched.items() if not by]
    seconds = time.monotonic() - began
    say(f"{len(STEPS)} scenarios, {len(touched)} rules, {seconds:.0f} s")
    return [*problems, *([f"it took {seconds:.0f} s"] if seconds > LIMIT else [])]


async def _play(step: Step, cluster: KafkaCluster, ports: list[int], seed: int) -> Outcome:
    began = time.monotonic()
    await asyncio.to_thread(cluster.heal)
    proxy = proxy_of(cluster, ports) if step.scenario.bed == "proxy" else None
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        async with entered(cluster, Path(folder), seed, proxy) as stage:
            outcome = await play_on(stage, step.scenario, seed=seed, rounds=step.rounds)
    outcome.seconds = time.monotonic() - began
    return outcome


def _run_tests(
    tests: dict[int, list[str]],
    touched: dict[int, list[str]],
    servers: Sequence[str],
    say: Callable[[str], None],
) -> list[str]:
    """Run the tests of all these rules at once; a rule is checked if all of its tests pass."""
    names = sorted({name for named in tests.values() for name in named})
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n0", f"--junitxml={result}", *names]
        environment = {**os.environ, "KAFKA": servers[0]}
        root = Path(__file__).parents[1]
        subprocess.run(command, cwd=root, env=environment, check=False, stdout=subprocess.DEVNULL)
        passed, failed = _results(result)
    say(f"{len(names)} tests: " + (f"{len(failed)} failed" if failed else "all passed"))
    for rule, named in tests.items():
        short = [name.rpartition("::")[2] for name in named]
        if named and all(name in passed for name in short):
            touched[rule].append(f"{len(named)} tests, such as {named[0]}")
    return [f"test failed: {name}" for name in sorted(failed)]


def _results(file: Path) -> tuple[set[str], set[str]]:
    """Return the names of passed tests and of failed tests, without skipped ones."""
    passed: set[str] = set()
    failed: set[str] = set()
    for case in ElementTree.parse(file).iter("testcase"):
        name = str(case.get("name")).partition("[")[0]
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        elif case.find("skipped") is None:
            passed.add(name)
    return passed - failed, failed

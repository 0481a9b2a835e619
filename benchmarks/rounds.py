"""Rounds of measurements, in shuffled order."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .bed import make_topic
from .case import Case, Contestant
from .processes import Processes, measure
from .task import Result, Task

__all__ = ["SESSION", "Bench", "Results"]

FILLED, KEYED = "bench-filled", "bench-keyed"
"""The consumed records: without keys, and with one of a hundred keys each."""
SESSION = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 500}
"""Settings with which a single member joins quickly, even after another member was killed."""

Results = dict[str, dict[str, list[Result]]]


@dataclass
class Bench:
    """Measures on one bed, with `count` messages each after a tenth of that as warm-up."""

    bed: str
    servers: str
    count: int
    say: Callable[[str], None]

    def run(self, cases: Sequence[Case], rounds: int, seed: int) -> Results:
        """Measure all contestants of all cases in each round; return results by both."""
        chosen = random.Random(seed)
        results: Results = {case.name: {c.name: [] for c in case.contestants} for case in cases}
        self._make_topics(cases)
        pairs = [(case, contestant) for case in cases for contestant in case.contestants]
        with Processes() as processes:
            for number in range(rounds):
                chosen.shuffle(pairs)
                for case, contestant in pairs:
                    result = self._measure(processes, case, contestant)
                    results[case.name][contestant.name].append(result)
                    each = result.cpu / result.count * 1e6
                    self.say(
                        f"{self.bed} {number + 1}: {case.name}, {contestant.name}: {each:.1f} us"
                    )
        return results

    def _measure(self, processes: Processes, case: Case, contestant: Contestant) -> Result:
        options = dict(contestant.options)
        if case.consumes:
            options["group"] = f"bench-{uuid.uuid4().hex[:8]}"
            options["kafka_settings"] = SESSION
        topic = f"bench-{case.name}"
        if case.consumes:
            topic = KEYED if contestant.options.get("keyed") else FILLED
        task = self._task(contestant.job, topic, options)
        who = (contestant.name, contestant.module, contestant.root)
        return processes.measure(who, contestant.module, task, contestant.root)

    def _task(self, job: str, topic: str, options: dict[str, object]) -> Task:
        return Task(job, self.servers, topic, self.count, self.count // 10, options)

    def _make_topics(self, cases: Sequence[Case]) -> None:
        """Create the topics to publish to, and a filled topic for all readers."""
        for case in cases:
            if not case.consumes:
                make_topic(self.servers, f"bench-{case.name}")
        if any(case.consumes for case in cases):
            self._fill(FILLED, {})
        if any(case.contestants[0].options.get("keyed") for case in cases if case.consumes):
            self._fill(KEYED, {"keyed": True})

    def _fill(self, topic: str, options: dict[str, object]) -> None:
        make_topic(self.servers, topic)
        for _ in range(2):  # more than anybody reads
            measure("raw", self._task("publish", topic, options))

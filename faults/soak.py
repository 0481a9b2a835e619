"""Injects random faults for a long time, and measures the members that are spared."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

from .broker_faults import KillBroker, MoveLeaders
from .fault import Fault
from .measure import descriptors, memory
from .member_faults import KillMember, LeaveAndJoin, StopMember
from .network_faults import Cut, CutAtBytes, LoseAnswers
from .process import Process
from .scenario import Limits, Scenario
from .scenarios import PATIENT_MODES
from .stage import Stage

__all__ = ["SOAK", "Soak", "slope"]

SAMPLE_SECONDS = 5.0
RATE = 400
"""Records per second; the backlog of an outage is handled before the next one, so that growing
memory is not caused by waiting records."""

SOAK = Scenario(
    "F44",
    "everything at random",
    "proxy",
    tuple(replace(mode, rate=RATE) for mode in PATIENT_MODES),
    (
        KillMember(),
        StopMember(),
        LeaveAndJoin(),
        KillBroker(),
        MoveLeaders(),
        Cut(),
        Cut(everywhere=True),
        CutAtBytes(),
        LoseAnswers(),
    ),
    limits=Limits(),
)


@dataclass(slots=True)
class Soak:
    """Runs a stage for this many seconds; `samples` have a value per spared process.

    One member and the publisher of each workload are spared: they live from start to end.
    """

    seconds: float
    samples: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, stage: Stage, scenario: Scenario, rounds: int) -> None:
        """Strike at random until the time is over."""
        spared: list[Process] = []
        for crew in stage.crews:
            crew.spared = [crew.members[0]]
            spared += [crew.members[0], *crew.publishers]
        end = time.monotonic() + self.seconds
        sampling = asyncio.create_task(self._sample(spared))
        try:
            while time.monotonic() < end:
                fault: Fault = stage.random.choice(scenario.faults)
                before = len(stage.strikes)
                await fault.strike(stage)
                assert len(stage.strikes) > before, f"{fault} did not fire"
                await stage.progress(scenario.records)
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
        sampling.cancelled() or sampling.result()

    async def _sample(self, processes: list[Process]) -> None:
        began = time.monotonic()
        while True:
            self.samples.append(
                {
                    "at": round(time.monotonic() - began, 1),
                    "memory": [round(memory(process.pid), 1) for process in processes],
                    "descriptors": [descriptors(process.pid) for process in processes],
                    "tasks": [process.tasks for process in processes],
                }
            )
            await asyncio.sleep(SAMPLE_SECONDS)

    def slopes(self) -> dict[str, list[float]]:
        """Return the growth per hour of each figure and process in the second half."""
        later = self.samples[len(self.samples) // 2 :]
        times = [sample["at"] / 3600 for sample in later]
        return {
            name: [
                round(slope(times, [sample[name][number] for sample in later]), 2)
                for number in range(len(self.samples[0][name]))
            ]
            for name in ("memory", "descriptors", "tasks")
        }


def slope(times: list[float], values: list[float]) -> float:
    """Return the slope of the line through points, by least squares."""
    mean_t, mean_v = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - mean_t) ** 2 for t in times)
    if not spread:
        return 0.0
    pairs = zip(times, values, strict=True)
    return sum((t - mean_t) * (v - mean_v) for t, v in pairs) / spread

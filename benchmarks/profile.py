"""`uv run bench profile`: the functions that take a message's time, compared with aiokafka.

The contestants run in this process, and the broker runs in another one. A timer of processor time
interrupts them every millisecond. A sample counts for the innermost Python function, including the
C code that it calls (pydantic, aiokafka's parser). A function's microseconds are its share of the
measured time per message.
"""

from __future__ import annotations

import argparse
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from .bed import BEDS, make_topic
from .processes import measure
from .rounds import SESSION
from .task import Task

__all__ = ["main"]

COUNT, WARM_UP, ROUNDS = 40_000, 2_000, 5
RATE, LATE_COUNT = 1_000, 4_000
SHOWN = 16
INTERVAL_SECONDS = 0.001

PROFILES = {
    "publish, models trusted": ("publish", {"validate": False}, "ours", "raw"),
    "publish_many, models validated": ("publish_many", {}, "ours", None),
    "consume, one by one": ("consume", {}, "ours", "raw"),
    "consume, in batches": ("consume_batch", {}, "ours", "raw"),
    "publish and consume, 1,000 messages a second": ("latency", {}, "ours_live", "raw_latency"),
}
"""By title: the job, its options, the module of this library's contestant and of aiokafka's."""


class Samples:
    """Samples by innermost function, only from the event loop and not from a start."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take samples by processor time."""
        before = signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)

    def _take(self, _: int, frame: FrameType | None) -> None:
        names, innermost = set[str](), frame
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        is_start = "_find_and_load" in names or "start" in names
        if innermost is not None and "run_forever" in names and not is_start:
            self.found[_name(innermost)] += 1


def _name(frame: FrameType) -> str:
    """Return a function and its file, as "`Publisher.offer`, publisher.py"."""
    code: Any = frame.f_code  # co_qualname is Python's from 3.11 on
    return f"`{code.co_qualname}`, {Path(code.co_filename).name}"


def profiled(module: str, job: str, options: dict[str, Any], servers: str) -> tuple[float, Samples]:
    """Let a contestant measure; return its microseconds per message, and the samples."""
    contestant, samples, each = import_module(f"benchmarks.contestants.{module}"), Samples(), []
    for _ in range(ROUNDS):
        name = uuid.uuid4().hex[:8]
        topic = f"profile-{name}" if job == "latency" else f"profile-{job}"
        task = Task(job, servers, topic, COUNT, WARM_UP, dict(options))
        if job == "latency":
            make_topic(servers, topic, 1)
            task = Task(job, servers, topic, LATE_COUNT, 500, {"rate": RATE})
        if job != "publish":
            task.options.update(group=name, kafka_settings=SESSION)
        with samples.taken():
            result = contestant.measured(task)
        each.append(result.cpu / result.count * 1e6)
    return median(each), samples


def table(titles: Sequence[str], columns: Sequence[tuple[float, Samples]]) -> str:
    """Return Markdown: the functions of each contestant by their share of a message."""
    rows = [
        f"**{title}: {each:.1f} us of the processor per message**\n\n| function | share | us |\n"
        f"|---|---|---|\n{_rows(each, samples)}"
        for title, (each, samples) in zip(titles, columns, strict=True)
    ]
    return "\n\n".join(rows)


def _rows(each: float, samples: Samples) -> str:
    total = samples.found.total()
    most = samples.found.most_common(SHOWN)
    most.append(("all others", total - sum(count for _, count in most)))
    return "\n".join(
        f"| {function} | {count / total:.1%} | {count / total * each:.2f} |"
        for function, count in most
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print Markdown."""
    argparse.ArgumentParser(prog="bench profile").parse_args(argv)
    for title, (job, options, ours, raw) in PROFILES.items():
        with BEDS["embedded"]() as servers:
            topic = f"profile-{job}"
            make_topic(servers, topic)
            for _ in range(2):  # more than anybody reads
                measure("raw", Task("publish", servers, topic, COUNT, WARM_UP, {"validate": False}))
            modules = [module for module in (ours, raw) if module is not None]
            columns = [profiled(module, job, options, servers) for module in modules]
        text = table(["kafkaesk", "aiokafka"][: len(columns)], columns)
        sys.stdout.write(f"## {title[0].upper()}{title[1:]}\n\n{text}\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

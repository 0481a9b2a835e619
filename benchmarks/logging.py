"""`uv run bench logging`: the cost of a log line, compared with other handlers.

The figures are medians of rounds in shuffled order, with each measurement in its own process. A
call logs three fields, as a model if the handler supports models. Targets are compared by processor
time if the wall clock would include the wait for a shared processor. The embedded broker receives
the shipped lines; lines per second are measured with Apache Kafka.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .bed import BEDS, make_topic
from .processes import measure
from .task import Result, Task

__all__ = ["main"]

TOPIC = "bench-logs"
OURS, QUEUED, EARLIER = "kafkaesk-logging", "QueueHandler + python-json-logger", "kafkaesk 0.8.7"
CALLER_TARGET, SUSTAINED_TARGET, FULL_TARGET = 0.7, 5.0, 50.0


@dataclass(frozen=True)
class Entry:
    """One contestant: the module and its job."""

    name: str
    module: str
    job: str
    options: dict[str, Any] = field(default_factory=dict)


CALLS = (
    Entry("StreamHandler, text, to /dev/null", "logs", "calls", {"way": "stream"}),
    Entry("python-json-logger to /dev/null", "logs", "calls", {"way": "json"}),
    Entry("structlog, JSON, to /dev/null", "logs", "calls", {"way": "structlog"}),
    Entry(QUEUED, "logs", "calls", {"way": "queue"}),
    Entry(OURS, "logs", "calls", {"way": "ours"}),
    Entry(EARLIER, "logs08", "calls"),
)
FULL = (
    Entry("a record", "logs", "full"),
    Entry("a record with an exception", "logs", "full", {"exception": True}),
)
SUSTAINED = (Entry(OURS, "logs", "sustained"), Entry(EARLIER, "logs08", "sustained"))
Found = dict[str, list[Result]]


def rounds_of(
    entries: Sequence[Entry], servers: str, count: int, rounds: int, chosen: random.Random
) -> Found:
    """Measure all contestants in each round, in shuffled order."""
    found: Found = {entry.name: [] for entry in entries}
    for number in range(rounds):
        for entry in chosen.sample(entries, len(entries)):
            task = Task(entry.job, servers, TOPIC, count, count // 10, entry.options)
            found[entry.name].append(measure(entry.module, task))
            say(f"round {number + 1}: {entry.job}, {entry.name}")
    return found


def say(text: str) -> None:
    """Print progress."""
    sys.stderr.write(f"{text}\n")


def middle(results: Sequence[Result], value: Callable[[Result], float]) -> str:
    """Return the median with the minimum and the maximum."""
    values = [value(result) for result in results]
    return f"{median(values):,.1f} ({min(values):,.1f} - {max(values):,.1f})"


def ratio(found: Found, one: str, other: str, value: Callable[[Result], float]) -> float:
    """Return the median of the ratios of two contestants in the same round."""
    return median(value(a) / value(b) for a, b in zip(found[one], found[other], strict=True))


def waited(result: Result) -> float:
    """Return the wall-clock microseconds of a call."""
    return float(result.details["caller"][0]) / result.count * 1e6


def caller(result: Result) -> float:
    """Return the processor microseconds of a call in its thread, whatever else runs."""
    return float(result.details["caller"][1]) / result.count * 1e6


def cpu(result: Result) -> float:
    """Return the processor microseconds per line, including all threads and the shipping."""
    return result.cpu / result.count * 1e6


def speed(result: Result) -> float:
    """Return the lines per second."""
    return result.count / result.seconds


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(text: str, value: float, *, is_reached: bool) -> str:
    """Return one line about a target."""
    return f"- {text}: {value:.2f}, {'reached' if is_reached else 'not reached'}"


def calls(servers: str, arguments: argparse.Namespace) -> str:
    """Measure the cost of `logger.info`."""
    chosen = random.Random(arguments.seed)
    found = rounds_of(CALLS, servers, arguments.lines, arguments.rounds, chosen)
    rows = [
        [name, *(middle(results, value) for value in (waited, caller, cpu))]
        for name, results in found.items()
    ]
    over = ratio(found, OURS, QUEUED, caller)
    told = [
        table(["us per line", "caller, clock", "caller, processor", "all, processor"], rows),
        "",
        verdict(
            f"the caller's processor time, of that with {QUEUED}, target <= {CALLER_TARGET}",
            over,
            is_reached=over <= CALLER_TARGET,
        ),
        f"- the same by the clock: {ratio(found, OURS, QUEUED, waited):.2f}",
        f"- the processor in all, delivery included: {ratio(found, OURS, QUEUED, cpu):.2f}",
        f"- the caller, of {EARLIER}'s: {ratio(found, OURS, EARLIER, caller):.2f}",
    ]
    return "\n".join(told)


def full(arguments: argparse.Namespace) -> str:
    """Measure the cost of a call while nothing can be delivered."""
    chosen = random.Random(arguments.seed)
    found = rounds_of(FULL, "", arguments.lines, arguments.rounds, chosen)
    rows = [
        [name]
        + [
            middle(results, lambda r, c=clock, i=index: float(r.details[c][i]))  # type: ignore[misc]  # the defaults bind the loop's variables
            for clock in ("wall", "cpu")
            for index in (0, 1)
        ]
        for name, results in found.items()
    ]
    high = median(result.details["cpu"][1] for result in found[FULL[0].name])
    head = [
        "us per call, queue full, broker gone",
        "p50",
        "p99",
        "p50, processor",
        "p99, processor",
    ]
    reached = verdict(
        f"p99 of a record, processor, target < {FULL_TARGET:g} us",
        high,
        is_reached=high < FULL_TARGET,
    )
    return f"{table(head, rows)}\n\n{reached}"


def sustained(servers: str, arguments: argparse.Namespace) -> str:
    """Measure the lines per second to a broker."""
    chosen = random.Random(arguments.seed)
    found = rounds_of(SUSTAINED, servers, arguments.lines * 2, arguments.rounds, chosen)
    rows = [[name, middle(results, speed), middle(results, cpu)] for name, results in found.items()]
    times = ratio(found, OURS, EARLIER, speed)
    head = ["to Apache Kafka", "lines per second", "us of processor per line"]
    reached = verdict(
        f"times as many as {EARLIER}, target >= {SUSTAINED_TARGET:g}",
        times,
        is_reached=times >= SUSTAINED_TARGET,
    )
    return f"{table(head, rows)}\n\n{reached}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(prog="bench logging")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="of the order in each round")
    parser.add_argument("--part", action="append", choices=["calls", "full", "sustained"])
    arguments = parser.parse_args(argv)
    parts = arguments.part or ["calls", "full", "sustained"]
    show(f"Medians of {arguments.rounds} rounds (least - most).")
    if "calls" in parts:
        with BEDS["embedded"]() as servers:
            make_topic(servers, TOPIC)
            show(calls(servers, arguments))
    if "full" in parts:
        show(full(arguments))
    if "sustained" in parts:
        with BEDS["kafka"]() as servers:
            make_topic(servers, TOPIC)
            show(sustained(servers, arguments))


def show(text: str) -> None:
    """Print a part as soon as it is measured."""
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()

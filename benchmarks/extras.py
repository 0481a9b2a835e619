"""What is measured beside the cases: latency, memory, scale, sizes, start-up."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .bed import make_topic
from .processes import measure, measure_together
from .rounds import SESSION
from .task import Result, Task

__all__ = ["EXTRAS", "Extra"]

ROUNDS = 5


@dataclass(frozen=True)
class Extra:
    """A measurement that writes its own part of the report, and the beds that it is made on."""

    beds: tuple[str, ...]
    run: Callable[[str], str]


def _new(servers: str, name: str, partitions: int = 4) -> str:
    topic = f"bench-{name}-{uuid.uuid4().hex[:8]}"
    make_topic(servers, topic, partitions)
    return topic


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latency(servers: str) -> str:
    """Publish to acknowledgement and to handler, at 1,000 messages per second."""
    found: dict[str, list[Result]] = {"ours_live": [], "raw_latency": []}
    for _ in range(ROUNDS):
        for module, results in found.items():
            topic = _new(servers, "latency", 1)
            options = {"rate": 1000, "group": topic, "kafka_settings": SESSION}
            results.append(measure(module, Task("latency", servers, topic, 5000, 1000, options)))
    rows = []
    for module, name in (("ours_live", "kafkaesk"), ("raw_latency", "aiokafka")):
        cells = [name]
        for what in ("ack", "handler"):
            for index in (0, 1):
                values = [r.details[what][index] * 1e6 for r in found[module]]
                cells.append(f"{median(values):.0f} ({min(values):.0f} - {max(values):.0f})")
        rows.append(cells)
    head = ["us", "to acknowledgement, p50", "p99", "to handler, p50", "p99"]
    return f"**Latency at 1,000 messages per second**, {ROUNDS} rounds\n\n" + _rows(head, rows)


def memory(servers: str) -> str:
    """Memory while a handler is ten times slower than what is published."""
    topic = _new(servers, "memory")
    options = {"seconds": 30, "group": topic, "kafka_settings": SESSION}
    result = measure("ours_live", Task("memory", servers, topic, 0, 0, options))
    samples = result.details["samples"]
    third = len(samples) // 3
    cells = [f"{median(samples[n * third : (n + 1) * third]):.1f}" for n in range(3)]
    told = f"{result.details['published']:,} published, {result.details['handled']:,} handled"
    head = ["MiB, median of the", "first 10 s", "second", "third"]
    return f"**Memory with a slow handler**: {told}\n\n" + _rows(head, [["kafkaesk", *cells]])


def scale(servers: str) -> str:
    """One, two and four processes of one group."""
    topic = _new(servers, "scale", 16)
    measure("raw", Task("publish", servers, topic, 120_000, 1, {}))
    rows, first = [], 0.0
    for processes in (1, 2, 4):
        speeds = []
        for _ in range(3):
            group = f"scale-{uuid.uuid4().hex[:8]}"
            options = {"begin": time.time() + 8, "group": group, "kafka_settings": SESSION}
            task = Task("share", servers, topic, 0, 0, options)
            results = measure_together("ours_live", [task] * processes)
            handled = sum(result.count for result in results)
            speeds.append(handled / max(result.seconds for result in results) / 1000)
        first = first or median(speeds)
        spread = f"{median(speeds):.0f} ({min(speeds):.0f} - {max(speeds):.0f})"
        rows.append([str(processes), spread, f"{median(speeds) / first:.2f}"])
    title = "**Processes of one group, 16 partitions**, handlers one by one\n\n"
    return title + _rows(["processes", "thousand msg/s", "times one"], rows)


def waiting(servers: str) -> str:
    """Handlers that wait 1 ms, 1,000 at once."""
    topic = _new(servers, "waiting")
    measure("raw", Task("publish", servers, topic, 22_000, 1, {}))
    rows = []
    for concurrency in (1, 10, 100, 1000, 10_000):
        count = min(20_000, 700 * concurrency)
        options = {"ordering": "key", "concurrency": concurrency, "kafka_settings": SESSION}
        results = []
        for _ in range(3):
            options["group"] = f"waiting-{uuid.uuid4().hex[:8]}"
            task = Task("consume_waiting", servers, topic, count, count // 10, dict(options))
            results.append(measure("ours", task))
        speeds = [r.count / r.seconds for r in results]
        costs = [r.cpu / r.count * 1e6 for r in results]
        rows.append([f"{concurrency:,}", f"{median(speeds):,.0f}", f"{median(costs):.1f}"])
    title = "**Handlers that wait 1 ms, in the order of keys**, messages without keys\n\n"
    return title + _rows(["at once", "msg/s", "us of processor each"], rows)


def sizes(servers: str) -> str:
    """Messages of other sizes, and more topics."""
    rows = []
    for name, options in (
        *((f"{size:,} bytes", {"padding": size - 200}) for size in (200, 1_000, 10_000, 100_000)),
        *((f"{topics} topics", {"topics": topics}) for topics in (1, 10, 100)),
    ):
        count = 500 if options.get("padding", 0) > 50_000 else 5_000
        cells = [name]
        for module in ("ours", "raw"):
            costs = []
            for _ in range(3):
                topic = f"bench-sizes-{uuid.uuid4().hex[:8]}"
                given = options | {"validate": False}
                result = measure(module, Task("publish", servers, topic, count, 100, given))
                costs.append(result.cpu / result.count * 1e6)
            cells.append(f"{median(costs):.1f}")
        rows.append([*cells, f"{float(cells[2]) / float(cells[1]):.2f}"])
    title = "**Sizes and numbers of topics**, publish, models trusted\n\n"
    return title + _rows(["", "kafkaesk, us each", "aiokafka", "vs aiokafka"], rows)


def _seconds(*command: str) -> float:
    values = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        values.append(time.perf_counter() - start)
    return median(values)


def startup(_: str) -> str:
    """Imports and the command."""
    rows = [
        ["import aiokafka, pydantic", _seconds("-c", "import aiokafka, pydantic")],
        ["import kafkaesk_core", _seconds("-c", "import kafkaesk_core")],
        ["kafkaesk --help", _seconds("-m", "kafkaesk_core", "--help")],
    ]
    told = [[str(name), f"{seconds:.2f}"] for name, seconds in rows]
    return f"**Start-up**, {ROUNDS} times each, the interpreter's start included\n\n" + _rows(
        ["", "seconds"], told
    )


EXTRAS: Mapping[str, Extra] = {
    "startup": Extra(("embedded",), startup),
    "waiting": Extra(("embedded",), waiting),
    "sizes": Extra(("embedded",), sizes),
    "latency": Extra(("kafka",), latency),
    "memory": Extra(("kafka",), memory),
    "scale": Extra(("kafka",), scale),
}
"""By name, in the order in which they are reported."""

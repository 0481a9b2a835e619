"""Additional measurements: limits, latency, memory, scale, sizes, start-up."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from timeit import repeat

from pydantic import TypeAdapter

from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.schema.encoding import fast_validator

from .bed import make_topic
from .chart import Curves
from .contestants.raw import Typed
from .idle import GROUPS, PARTITIONS, topics_of
from .order import Order, order
from .processes import measure, measure_together
from .rounds import SESSION
from .task import Result, Task

__all__ = ["EXTRAS", "Extra", "Section"]

ROUNDS = 5
CLIENTS = """
import aiokafka
from pydantic import BaseModel

class Model(BaseModel):
    number: int
"""
WHERE = {"ack": "acknowledgement", "handler": "handler"}


@dataclass(frozen=True)
class Section:
    """A part of the report, with its pictures."""

    text: str
    pictures: Sequence[Curves] = field(default_factory=tuple)


@dataclass(frozen=True)
class Extra:
    """A measurement that writes its own part of the report, with its beds."""

    beds: tuple[str, ...]
    run: Callable[[str], Section]


def _new(servers: str, name: str, partitions: int = 4) -> str:
    topic = f"bench-{name}-{uuid.uuid4().hex[:8]}"
    make_topic(servers, topic, partitions)
    return topic


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _verdict(told: str, is_reached: bool) -> str:
    return f"\n- {told}: {'reached' if is_reached else 'not reached'}\n"


def limits(_: str) -> Section:
    """Measure a message's cost in pydantic alone, the minimum for a library that validates."""
    message = order()
    content = Order.__pydantic_serializer__.to_json(message)
    envelope = b'{"schema":"Order:1","data":' + content + b"}"
    accept = fast_validator(Order)
    validate = TypeAdapter(Typed).validator.validate_json
    parts = {
        "serialise a model": lambda: Order.__pydantic_serializer__.to_json(message),
        "look through its bytes (`validate_published`)": lambda: accept(content),
        "validate an envelope into a model": lambda: validate(envelope),
        "validate its data alone": lambda: Order.__pydantic_validator__.validate_json(content),
    }
    rows = []
    for name, part in parts.items():
        values = [seconds / 2000 * 1e6 for seconds in repeat(part, number=2000, repeat=21)]
        rows.append([name, f"{median(values):.2f}", f"{min(values):.2f} - {max(values):.2f}"])
    title = (
        "**What pydantic takes** of it, alone in a loop; no library that validates takes less\n\n"
    )
    return Section(title + _rows(["", "us each", "min - max"], rows))


def latency(servers: str) -> Section:
    """Measure publish to acknowledgement and to handler, at 1,000 messages per second."""
    found: dict[str, list[Result]] = {"ours_live": [], "raw_latency": []}
    for _ in range(ROUNDS):
        for module, results in found.items():
            topic = _new(servers, "latency", 1)
            options = {"rate": 1000, "group": topic, "kafka_settings": SESSION}
            results.append(measure(module, Task("latency", servers, topic, 5000, 1000, options)))
    rows, verdicts, lines = [], "", {}
    names = {"ours_live": "kafkaesk", "raw_latency": "aiokafka"}
    for module, name in names.items():
        cells = [name]
        for what in ("ack", "handler"):
            for percentile in (50, 99):
                values = [r.details[what][percentile - 1] * 1e6 for r in found[module]]
                cells.append(f"{median(values):.0f} ({min(values):.0f} - {max(values):.0f})")
            points = [median(r.details[what][at] * 1e6 for r in found[module]) for at in range(99)]
            lines[f"{name}, to {WHERE[what]}"] = list(range(1, 100)), points
        rows.append(cells)
    for where in WHERE.values():
        for percentile in (50, 99):
            ours, raw = (lines[f"{name}, to {where}"][1][percentile - 1] for name in names.values())
            told = f"to {where}, p{percentile}: {ours - raw:+.0f} us, {ours / raw:.2f}x"
            is_reached = ours <= max(1.1 * raw, raw + 100)
            verdicts += _verdict(f"{told}, target 1.1x or +100 us", is_reached)
    head = ["us", "to acknowledgement, p50", "p99", "to handler, p50", "p99"]
    picture = Curves("latency", "percentile", "us, median of the rounds", lines)
    title = f"**Latency at 1,000 messages per second**, {ROUNDS} rounds\n\n"
    return Section(title + _rows(head, rows) + verdicts, [picture])


def memory(servers: str) -> Section:
    """Measure the memory while a handler is ten times slower than the publisher."""
    topic = _new(servers, "memory")
    options = {"seconds": 30, "group": topic, "kafka_settings": SESSION}
    result = measure("ours_live", Task("memory", servers, topic, 0, 0, options))
    samples = result.details["samples"]
    third = len(samples) // 3
    cells = [f"{median(samples[n * third : (n + 1) * third]):.1f}" for n in range(3)]
    told = f"{result.details['published']:,} published, {result.details['handled']:,} handled"
    head = ["MiB, median of the", "first 10 s", "second", "third"]
    text = f"**Memory with a slow handler**: {told}\n\n" + _rows(head, [["kafkaesk", *cells]])
    seconds = [(number + 1) / 2 for number in range(len(samples))]
    picture = Curves("memory", "seconds", "MiB", {"kafkaesk": (seconds, samples)})
    return Section(text, [picture])


def scale(servers: str) -> Section:
    """Measure one, two and four processes of a group, over few and many partitions."""
    rows, times = [], {}
    for partitions in (1, 4, 16):
        topic = _new(servers, "scale", partitions)
        measure("raw", Task("publish", servers, topic, 120_000, 1, {}))
        first = 0.0
        for processes in (1, 2, 4):
            if processes > partitions:
                continue
            speeds = [_shared(servers, topic, processes) for _ in range(3)]
            first = first or median(speeds)
            times[partitions, processes] = median(speeds) / first
            spread = f"{median(speeds):.0f} ({min(speeds):.0f} - {max(speeds):.0f})"
            gain = f"{times[partitions, processes]:.2f}"
            rows.append([str(partitions), str(processes), spread, gain])
    title = "**Processes of one group**, handlers one by one; a broker shares the cores\n\n"
    head = ["partitions", "processes", "thousand msg/s", "times one"]
    reached = times[16, 2]
    told = f"two processes, 16 partitions: {reached:.2f}x one, target 1.6x"
    return Section(title + _rows(head, rows) + _verdict(told, reached >= 1.6))


def _shared(servers: str, topic: str, processes: int) -> float:
    """Return the thousand messages per second of this many members of a group together."""
    group = f"scale-{uuid.uuid4().hex[:8]}"
    options = {"begin": time.time() + 8, "group": group, "kafka_settings": SESSION}
    task = Task("share", servers, topic, 0, 0, options)
    results = measure_together("ours_live", [task] * processes)
    handled = sum(result.count for result in results)
    return handled / max(result.seconds for result in results) / 1000


def waiting(servers: str) -> Section:
    """Measure handlers that wait 1 ms, 1,000 at once."""
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
    values = [_offsets_cost(10_000) for _ in range(21)]
    cost = median(values)
    told = f"offsets, 10,000 in flight, any order: {cost:.2f} us each, target 3 us"
    verdict = _verdict(told, median(values) <= 3)
    return Section(title + _rows(["at once", "msg/s", "us of processor each"], rows) + verdict)


def _offsets_cost(in_flight: int) -> float:
    """Return the cost of opening and closing an offset, in microseconds."""
    order_of_ends = random.sample(range(in_flight), in_flight)
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["partition"])
    start = time.perf_counter()
    tracker.register("partition", range(in_flight), now=0.0)
    finish = tracker.finisher("partition")
    for offset in order_of_ends:
        finish(offset)
    return (time.perf_counter() - start) / in_flight * 1e6


def sizes(servers: str) -> Section:
    """Measure messages of other sizes, and more topics."""
    rows = []
    for name, options in (
        *((f"{size:,} bytes", {"padding": size - 200}) for size in (200, 1_000, 10_000, 100_000)),
        *((f"{topics} topics", {"topics": topics}) for topics in (1, 10, 100)),
    ):
        count = 500 if options.get("padding", 0) > 50_000 else 5_000
        cells = [name]
        topic = _new(servers, "sizes")
        for number in range(options.get("topics", 0)):
            make_topic(servers, f"{topic}-{number}")
        for module in ("ours", "raw"):
            costs = []
            for _ in range(3):
                given = options | {"validate": False}
                result = measure(module, Task("publish", servers, topic, count, 100, given))
                costs.append(result.cpu / result.count * 1e6)
            cells.append(f"{median(costs):.1f}")
        rows.append([*cells, f"{float(cells[2]) / float(cells[1]):.2f}"])
    title = "**Sizes and numbers of topics**, publish, models trusted\n\n"
    return Section(title + _rows(["", "kafkaesk, us each", "aiokafka", "vs aiokafka"], rows))


def _seconds(*command: str) -> float:
    """Return the seconds of a process; its imports are compiled, as in an installed package."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    values = []
    for number in range(-1, ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
        if number >= 0:  # the first one has compiled it
            values.append(time.perf_counter() - start)
    return median(values)


def startup(_: str) -> Section:
    """Measure imports and the command."""
    clients = _seconds("-c", CLIENTS)
    ours = _seconds("-c", "from kafkaesk_core import Application")
    commands = {
        f"kafkaesk {words}": _seconds("-m", "kafkaesk_core", *words.split())
        for words in ("--help", "plugins")
    }
    rows = [
        ["import aiokafka and pydantic, declare one model", f"{clients:.2f}"],
        ["import kafkaesk_core.Application", f"{ours:.2f}"],
        *([name, f"{seconds:.2f}"] for name, seconds in commands.items()),
    ]
    title = f"**Start-up**, {ROUNDS} times each, the interpreter's start included\n\n"
    verdicts = _verdict(f"import: {ours / clients:.2f}x, target 1.3x", ours <= 1.3 * clients)
    for name, seconds in commands.items():
        verdicts += _verdict(f"{name}: {seconds:.2f} s, target 0.25 s", seconds <= 0.25)
    return Section(title + _rows(["", "seconds"], rows) + verdicts)


def idle(servers: str) -> Section:
    """Measure the processor time and memory of groups that receive no records."""
    modules = {"ours": "kafkaesk", "raw": "aiokafka", "faststream07": "FastStream 0.7"}
    found: dict[str, list[Result]] = {module: [] for module in modules}
    for number in range(3):
        for module, results in found.items():
            task = Task("idle", servers, f"bench-idle-{uuid.uuid4().hex[:8]}", number, 0, {})
            for topic in topics_of(task):
                make_topic(servers, topic, PARTITIONS)
            results.append(measure(module, task))
    rows = []
    for module, name in modules.items():
        costs = [r.cpu / r.seconds * 60_000 / GROUPS for r in found[module]]
        memory = median(r.details["mib"] for r in found[module])
        spread = f"{median(costs):.0f} ({min(costs):.0f} - {max(costs):.0f})"
        rows.append([name, spread, f"{memory:.0f}"])
    title = f"**Idle**: {GROUPS} groups of {PARTITIONS} partitions without a record\n\n"
    head = ["", "ms of processor per group and minute", "MiB"]
    return Section(title + _rows(head, rows))


EXTRAS: Mapping[str, Extra] = {
    "limits": Extra(("embedded",), limits),
    "startup": Extra(("embedded",), startup),
    "waiting": Extra(("embedded",), waiting),
    "sizes": Extra(("embedded",), sizes),
    "latency": Extra(("kafka",), latency),
    "memory": Extra(("kafka",), memory),
    "scale": Extra(("kafka",), scale),
    "idle": Extra(("kafka",), idle),
}
"""By name, in the order in which they are reported."""

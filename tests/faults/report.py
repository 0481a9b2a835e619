"""The report: what was measured, as Markdown that is made from the kept figures alone."""

from __future__ import annotations

import platform
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kafkaesk_testing.jars import KAFKA_VERSION

from .figures import Figures, totals
from .rows import ROWS

__all__ = ["TestRun", "headline", "report"]

WORKER_KILLS = ("member killed",)
BROKER_KILLS = ("any broker killed", "coordinator broker killed", "leader broker killed")
NETWORK = ("connections cut", "connection cut in the middle", "produce answers lost")
CLEAN = ("member stopped", "member left")
GOAL = {"acked": 1_000_000, "worker kills": 200, "broker kills": 30, "network faults": 100}


@dataclass(frozen=True, slots=True)
class TestRun:
    """The tests of one row: how many ran, in how many rounds, and what failed."""

    row: str
    names: tuple[str, ...]
    rounds: int
    passed: int
    failed: tuple[str, ...]


def report(runs: Sequence[Figures], tests: Sequence[TestRun], folder: Path, **about: str) -> str:
    """The whole report; the pictures are in the folder. `about` is seed, date and command."""
    ours = [run for run in runs if run.library == "kafkaesk"]
    peers = [run for run in runs if run.library != "kafkaesk"]
    parts = [
        "# Reliability\n",
        "What the fault suite measured; nothing here is written by hand.\n",
        f"**{headline(ours)}**\n",
        _made_with(**about),
        _gates(ours),
        _summary(ours),
        _repeats(ours),
        _rows(ours, tests),
        _pauses(ours),
        _plots(folder),
        _compared(ours, peers),
        _allowed(),
        _definitions(),
    ]
    return "\n".join(part for part in parts if part)


def _fired(total: Counter[str], kinds: Iterable[str]) -> int:
    return sum(total[f"fired: {kind}"] for kind in kinds)


def headline(runs: Sequence[Figures]) -> str:
    """The result in one sentence."""
    total = totals(runs)
    costs = [cost for run in runs for cost, _ in run.kill_costs]
    kills, brokers = _fired(total, WORKER_KILLS), _killed_brokers(total)
    clean = _fired(total, CLEAN)
    twice = _twice(runs)
    return (
        f"{total['acked']:,} records acknowledged, {kills} member kills (-9), "
        f"{brokers} broker kills, {_fired(total, NETWORK)} network faults, "
        f"{total['rebalances']:,} rebalances: {total['lost']} lost, "
        f"{total['disordered']} out of order, {sum(costs):,} redelivered after kills "
        f"({_mean(costs):.0f} per kill), {twice} redelivered over {clean} clean stops and all "
        "other handovers that nothing excuses."
    )


def _killed_brokers(total: Counter[str]) -> int:
    outages = 3 * total["fired: all brokers killed"] + 2 * total["fired: majority killed"]
    return _fired(total, BROKER_KILLS) + outages


def _twice(runs: Iterable[Figures]) -> int:
    """Handled again after a handover, in the rows that have no reason for it."""
    return sum(run.repeated for run in runs if not run.repeats)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _made_with(seed: str, date: str, command: str) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiokafka", "pydantic", "pluggy"))
    return (
        f"kafkaesk-core {version('kafkaesk-core')}, {packages}, Apache Kafka {KAFKA_VERSION}, "
        f"Python {platform.python_version()}; three brokers and all processes on one machine with "
        f"{_cores()} cores. {date}, seed {seed}. Made by `{command}`.\n"
    )


def _cores() -> int:
    import os

    return os.cpu_count() or 1


# --- gates


def _gates(runs: Sequence[Figures]) -> str:
    total = totals(runs)
    counts = {
        "acked": total["acked"],
        "worker kills": _fired(total, WORKER_KILLS),
        "broker kills": _killed_brokers(total),
        "network faults": _fired(total, NETWORK),
        "rebalances": total["rebalances"],
    }
    kills = [pair for run in runs for pair in run.kill_costs]
    costs, bounds = [cost for cost, _ in kills], [bound for _, bound in kills]
    lines = [
        "## Gates\n",
        "| figure | gate | measured |",
        "|---|---|---|",
        f"| lost | 0 | {total['lost']} |",
        f"| order violations in key and partition mode | 0 | {total['disordered']} |",
        f"| commits ahead of the watermark | 0 | {total['commits_ahead']} |",
        f"| phantom reads | 0 | {total['phantoms']} |",
        f"| handled twice after a handover, in rows that allow none | 0 | {_twice(runs)} |",
        f"| handled twice over {_of(runs, 'F2', CLEAN)} clean stops | 0 | "
        f"{_handover(runs, 'F2')} |",
        f"| handled twice over {_of(runs, 'F3', ('member joined', 'member left'))} joins and "
        f"leaves | 0 | {_handover(runs, 'F3')} |",
        f"| handled twice over {_of(runs, 'F13', ('broker restarted',)) // 3} rolling restarts, "
        f"three modes at once | 0 | {_handover(runs, 'F13')} |",
        f"| kills that cost more than the engine had said | 0 of {len(kills)} | "
        f"{sum(cost > bound for cost, bound in kills)} |",
        f"| redelivered per kill: mean, max (largest bound) | bound | {_mean(costs):.0f}, "
        f"{max(costs, default=0)} ({max(bounds, default=0)}) |",
        f"| unexpected rebalances in rolling restarts | 0 | "
        f"{sum(run.unexpected_rebalances for run in runs if run.row == 'F13')} |",
        *_recoveries(runs),
        f"| stop with all brokers gone, longest | 25 s | {_longest_stop(runs)} |",
        f"| duplicates in the log, leaders killed | 0 | {total['doubled_in_log']} |",
        f"| tasks and connections left after a stop | 0 | {total['left_behind']} |",
        f"| records acknowledged | 1,000,000 | {counts['acked']:,} |",
        f"| member kills | 200 | {counts['worker kills']} |",
        f"| broker kills | 30 | {counts['broker kills']} |",
        f"| network faults | 100 | {counts['network faults']} |",
        f"| rebalances (generations of groups) | 500 | {counts['rebalances']:,} |",
    ]
    return "\n".join(lines) + "\n"


def _of(runs: Sequence[Figures], row: str, kinds: Iterable[str]) -> int:
    return _fired(totals(run for run in runs if run.row == row), kinds)


def _handover(runs: Sequence[Figures], row: str) -> int:
    return sum(run.redelivered_by["handover"] for run in runs if run.row == row)


def _recoveries(runs: Sequence[Figures]) -> list[str]:
    lines = []
    for bed, gate in (("fast", 5), ("stock", 15)):
        for role in ("coordinator", "leader"):
            kind = f"{role} broker killed"
            source = "commit_pauses" if role == "coordinator" else "pauses"
            values = [v for r in runs if r.bed == bed for v in getattr(r, source).get(kind, [])]
            lines.append(
                f"| recovery after a {role} was killed, {bed} brokers: p50, max | {gate} s | "
                f"{_p50_max(values)} |"
            )
    kills = [v for r in runs if r.row == "F1" for v in r.pauses.get("member killed", [])]
    lines.append(f"| takeover after SIGKILL, session 2 s: p50, max | 5 s | {_p50_max(kills)} |")
    return lines


def _p50_max(values: Sequence[float]) -> str:
    if not values:
        return "not run"
    return f"{statistics.median(values):.1f} s, {max(values):.1f} s ({len(values)})"


def _longest_stop(runs: Sequence[Figures]) -> str:
    stops = [seconds for run in runs if run.row == "F18" for seconds in run.stops]
    return f"{max(stops):.1f} s" if stops else "not run"


# --- tables


def _summary(runs: Sequence[Figures]) -> str:
    total = totals(runs)
    causes: Counter[str] = Counter()
    for run in runs:
        causes.update(run.redelivered_by)
        causes["handover, for a reason of the row"] += run.repeated if run.repeats else 0
        causes["handover, without a reason"] += 0 if run.repeats else run.repeated
    del causes["handover"]
    told = ", ".join(f"{cause} {count:,}" for cause, count in causes.most_common()) or "none"
    fired = {k[7:]: n for k, n in total.items() if k.startswith("fired: ")}
    lines = [
        "## Sums over all runs\n",
        "| figure | |",
        "|---|---|",
        f"| sent / acknowledged / failed / unknown | {total['sent']:,} / {total['acked']:,} / "
        f"{total['failed']:,} / {total['unknown']:,} |",
        f"| without an outcome | {total['unresolved']} |",
        f"| in the log / twice / out of order / reported failed and there | {total['in_log']:,} / "
        f"{total['doubled_in_log']} / {total['disordered_in_log']} / {total['failed_in_log']} |",
        f"| handled / deliveries | {total['handled']:,} / {total['deliveries']:,} |",
        f"| redelivered, by cause | {told} |",
        f"| two owners at once, outside zombies | {total['overlaps']} |",
        f"| commits / back / not owned | {total['commits']:,} / {total['commits_back']} / "
        f"{total['commits_unowned']} |",
        f"| memberships lost | {total['losses']} |",
        "| faults that fired | "
        + ", ".join(f"{kind} {count}" for kind, count in sorted(fired.items()))
        + " |",
    ]
    return "\n".join(lines) + "\n"


def _repeats(runs: Sequence[Figures]) -> str:
    """What was handled again after a handover: row by row with the reason, and without one."""
    by_reason: Counter[tuple[str, str]] = Counter()
    for run in runs:
        if run.repeats:
            by_reason[run.row, run.repeats] += run.repeated
    lines = [
        "## Handled again after a handover\n",
        "| row | why it may be | records |",
        "|---|---|---|",
        *(
            f"| {row} | {reason} | {count:,} |"
            for (row, reason), count in sorted(
                by_reason.items(), key=lambda item: int(item[0][0][1:])
            )
        ),
        f"| all others | nothing: must be 0 | {_twice(runs):,} |",
    ]
    return "\n".join(lines) + "\n"


def _rows(runs: Sequence[Figures], tests: Sequence[TestRun]) -> str:
    by_row: Mapping[str, TestRun] = {test.row: test for test in tests}
    lines = [
        "## Rows\n",
        "| row | fault | played as | rounds | acknowledged | lost | twice | out of order | holds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, title in ROWS.items():
        for run in (run for run in runs if run.row == row):
            s = run.sums
            holds = "yes" if not run.problems else "; ".join(run.problems)[:200]
            lines.append(
                f"| {row} | {title} | {run.title}, {run.bed} | {run.rounds} | {s['acked']:,} | "
                f"{s['lost']} | {s['redelivered']} | {s['disordered']} | {holds} |"
            )
        if row in by_row:
            test = by_row[row]
            holds = "yes" if not test.failed else "failed: " + ", ".join(test.failed)
            lines.append(
                f"| {row} | {title} | {len(test.names)} tests, {test.passed} cases passed | "
                f"{test.rounds} | | | | | {holds} |"
            )
    played = {run.row for run in runs} | by_row.keys()
    if missing := [row for row in ROWS if row not in played]:
        lines += ["", f"Not played in this run: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _pauses(runs: Sequence[Figures]) -> str:
    found: dict[tuple[str, str], list[list[float]]] = {}
    for run in runs:
        for kind in run.pauses:
            both = found.setdefault((kind, run.bed), [[], []])
            both[0] += run.pauses[kind]
            both[1] += run.commit_pauses.get(kind, [])
    lines = [
        "## Pauses\n",
        "From a fault to the next handled record of the partition that waited longest, and to the "
        "next acknowledged commit; seconds, p50 and max, per workload and fault.\n",
        "| fault | brokers | count | handled: p50, max | committed: p50, max |",
        "|---|---|---|---|---|",
    ]
    for (kind, bed), (handled, committed) in sorted(found.items()):
        lines.append(
            f"| {kind} | {bed} | {len(handled)} | {statistics.median(handled):.2f}, "
            f"{max(handled):.2f} | {statistics.median(committed):.2f}, {max(committed):.2f} |"
        )
    return "\n".join(lines) + "\n"


def _plots(folder: Path) -> str:
    names = {
        "pauses": "Recovery time per fault",
        "kills": "Records redelivered per kill, and what the engine had said",
        "rebalances": "Pause of a rebalance",
        "soak": "Memory, descriptors and tasks over the soak",
    }
    lines = [
        f"![{title}](reliability-{name}.png)"
        for name, title in names.items()
        if (folder / f"reliability-{name}.png").exists()
    ]
    return "\n\n".join(lines) + "\n"


def _compared(ours: Sequence[Figures], peers: Sequence[Figures]) -> str:
    if not peers:
        return ""
    lines = [
        "## Beside others\n",
        "The same faults, each library as its own documentation sets it up for delivery at least "
        "once; one workload, ordered by partition where the library keeps an order. A member that "
        "ends by itself is started again.\n",
        "| row | library | acknowledged | lost | twice | out of order | ended by itself | "
        "what did not hold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = {run.title for run in peers}
    for run in sorted([*ours, *peers], key=lambda run: (int(run.row[1:]), run.library)):
        if run.title in names:
            s = run.sums
            lines.append(
                f"| {run.row} {run.title} | {run.library} | {s['acked']:,} | {s['lost']} | "
                f"{s['redelivered']} | {s['disordered']} | {s['ended']} | "
                f"{'; '.join(run.problems)[:160]} |"
            )
    return "\n".join(lines) + "\n"


def _allowed() -> str:
    return (
        "## Allowed by design\n\n"
        "- Redelivery after a kill, bounded by what the engine says before it (rule 10).\n"
        "- A record that outlives its handover runs again elsewhere; its first run is a zombie "
        "(rule 21). A member that was frozen or blocked past its session is one until it notices.\n"
        "- What waits for a retry at a handover, and what finished above it, comes again (D24).\n"
        "- What a commit covered that could not be sent at a handover comes again.\n"
        '- Order between keys; with `ordering="unordered"`, any order.\n'
        "- Rebalances are eager; there is no exactly once.\n"
    )


def _definitions() -> str:
    return (
        "## What the words mean\n\n"
        "Each record has an id, a key and a sequence number. Publishers, handlers and commits are "
        "journals of separate processes; a plain client reads topics and offsets afterwards. "
        "*Lost*: acknowledged and handled by nobody. *Twice*: finished handlings beyond the first. "
        "*Out of order*: the first handling of a record began before that of an earlier one of its "
        "partition (or key). *Handover*: handled again though its partition was handed over; it "
        "must not occur but in the rows that name a reason.\n"
    )

"""The report, as Markdown generated only from the saved figures."""

from __future__ import annotations

import platform
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kafkaesk_testing.kafka_install import KAFKA_VERSION

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
    """The tests of one row: their number, the rounds, and the failures."""

    row: str
    names: tuple[str, ...]
    rounds: int
    passed: int
    failed: tuple[str, ...]


def report(runs: Sequence[Figures], tests: Sequence[TestRun], folder: Path, **about: str) -> str:
    """Return the report; the pictures are in the folder. `about` is seed, date and command."""
    ours = [run for run in runs if run.library == "kafkaesk"]
    peers = [run for run in runs if run.library != "kafkaesk"]
    parts = [
        "# Reliability\n",
        "The fault suite measured these figures and wrote this page.\n",
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
    """Return the result in one sentence."""
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
        "other handovers that should repeat nothing."
    )


def _killed_brokers(total: Counter[str]) -> int:
    outages = 3 * total["fired: all brokers killed"] + 2 * total["fired: majority killed"]
    return _fired(total, BROKER_KILLS) + outages


def _twice(runs: Iterable[Figures]) -> int:
    """Count records handled again after a handover, in rows without a reason for it."""
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
        f"| redelivered after a handover, in rows that allow none | 0 | {_twice(runs)} |",
        f"| redelivered over {_of(runs, 'F2', CLEAN)} clean stops | 0 | {_handover(runs, 'F2')} |",
        f"| redelivered over {_of(runs, 'F3', ('member joined', 'member left'))} joins and "
        f"leaves | 0 | {_handover(runs, 'F3')} |",
        f"| redelivered over {_of(runs, 'F13', ('broker restarted',)) // 3} rolling restarts, "
        f"three modes at once | 0 | {_handover(runs, 'F13')} |",
        f"| kills that repeated more records than `status()` had announced | 0 of {len(kills)} | "
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
    listed = ", ".join(f"{cause} {count:,}" for cause, count in causes.most_common()) or "none"
    fired = {k[7:]: n for k, n in total.items() if k.startswith("fired: ")}
    lines = [
        "## Sums over all runs\n",
        "| figure | |",
        "|---|---|",
        f"| sent / acknowledged / failed / unknown | {total['sent']:,} / {total['acked']:,} / "
        f"{total['failed']:,} / {total['unknown']:,} |",
        f"| without a delivery result | {total['unresolved']} |",
        "| in the log / duplicates / out of order / reported as failed but written | "
        f"{total['in_log']:,} / {total['doubled_in_log']} / "
        f"{total['disordered_in_log']} / {total['failed_in_log']} |",
        f"| handled / deliveries | {total['handled']:,} / {total['deliveries']:,} |",
        f"| redelivered, by cause | {listed} |",
        f"| dead letters / further ones of the same record / of records that could be handled | "
        f"{total['dead']:,} / {total['dead_twice']} / {total['dead_wrongly']} |",
        f"| handled by two owners at once, orphaned handlers aside | {total['overlaps']} |",
        "| commits / moved back / of partitions not owned | "
        f"{total['commits']:,} / {total['commits_back']} / {total['commits_unowned']} |",
        f"| times a member lost its partitions without a rebalance | {total['losses']} |",
        "| faults injected | "
        + ", ".join(f"{kind} {count}" for kind, count in sorted(fired.items()))
        + " |",
    ]
    return "\n".join(lines) + "\n"


def _repeats(runs: Sequence[Figures]) -> str:
    """Return the records handled again after a handover, by row, with and without a reason."""
    by_reason: Counter[tuple[str, str]] = Counter()
    for run in runs:
        if run.repeats:
            by_reason[run.row, run.repeats] += run.repeated
    lines = [
        "## Redelivered after a handover\n",
        "| row | reason | records |",
        "|---|---|---|",
        *(
            f"| {row} | {reason} | {count:,} |"
            for (row, reason), count in sorted(
                by_reason.items(), key=lambda item: int(item[0][0][1:])
            )
        ),
        f"| all others | none: must be 0 | {_twice(runs):,} |",
    ]
    return "\n".join(lines) + "\n"


def _rows(runs: Sequence[Figures], tests: Sequence[TestRun]) -> str:
    by_row: Mapping[str, TestRun] = {test.row: test for test in tests}
    lines = [
        "## Rows\n",
        "| row | fault | played as | rounds | acknowledged | lost | redelivered | out of order | "
        "passed |",
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
        lines += ["", f"Not run this time: {', '.join(missing)}."]
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
        "The time from a fault to the next handled record (of the partition that waited longest) "
        "and to the next acknowledged commit, in seconds: p50 and max, per workload and fault.\n",
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
        "kills": "Records redelivered per kill, and the bound that `status()` had announced",
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
        "## Other libraries\n",
        "The same faults against other libraries, each configured for at-least-once delivery as "
        "its documentation says. There is one workload, ordered by partition where the library "
        "keeps an order. A member that exits is started again.\n",
        "| row | library | acknowledged | lost | redelivered | out of order | "
        "members that exited | violations |",
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
        "## What is allowed\n\n"
        "- A kill redelivers at most as many records as `status()` announced before it (rule 10).\n"
        "- A handler that is still running when its partition is handed over is orphaned: the new "
        "owner handles the record again (rule 21). All handlers of a member that was frozen or "
        "blocked for longer than its session are orphaned until the member notices.\n"
        "- A record that waits for its retry at a handover is redelivered, and so are the records "
        "after it that were already handled (D24).\n"
        "- If the commit of a handover cannot be sent, its records are redelivered.\n"
        '- Records of different keys have no order with `ordering="key"`, and no records have one '
        'with `ordering="unordered"`.\n'
        "- Rebalances are eager, and there is no exactly-once delivery.\n"
    )


def _definitions() -> str:
    return (
        "## Terms\n\n"
        "Each record has an id, a key and a sequence number. Publishers and members are separate "
        "processes that write journals; afterwards a plain client reads topics and offsets. "
        "*Lost*: acknowledged, but not handled by any member. *Redelivered*: handled to the end "
        "more than once. "
        "*Out of order*: the handler of a record started before that of an earlier record of its "
        "partition (or key). *Orphaned*: running in a member that no longer owns the partition. "
        "*Handover*: redelivered although the partition was handed over in order; only rows that "
        "name a reason may have such records.\n"
    )

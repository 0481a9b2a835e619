"""`uv run bench`: measures this library and its peers in one run, and writes the report.

`bench clients`, `logging`, `plugins` and `profile` measure more, each with its own options.

Each contestant runs in its own process, in shuffled order within each round; a ratio compares two
results of the same round.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kafkaesk_tools.peers import peer_python

from .against import beside, checked_out, compared
from .bed import BEDS
from .case import CASES, Case
from .chart import draw, draw_curves
from .extras import EXTRAS, Section
from .rounds import Bench, Results
from .table import table

__all__ = ["SUBCOMMANDS", "main"]

SUBCOMMANDS = {
    "clients": "how fast a service consumes beside hostile clients of its probes",
    "logging": "the cost of a log line, compared with other handlers",
    "plugins": "the cost of each plugin per message",
    "profile": "where the time of a message goes, by function, beside aiokafka",
}
"""Modules of this package with a `main`, and what they measure."""

COUNTS = {"embedded": 20_000, "kafka": 50_000}
QUICK_COUNT = 5_000
TITLES = {
    "embedded": "On the embedded broker: what the client costs",
    "kafka": "On Apache Kafka, on the same machine: what a user gets",
}
HEAD = """# Performance

Medians of rounds in which everybody is measured in shuffled order, each in a process of its own
that is kept for all rounds, with quartiles. The message is a pydantic model of five fields, a time
and two nested models among them, about 200 bytes in its envelope. A ratio compares two of the same
round by the processor time of the client, of all its threads: a broker shares the machine. All
write idempotently, acknowledged by all replicas, where nothing else is said. Where the time goes,
and why a target is not reached: [profile.md](profile.md). Measured with: {about}.
"""
PACKAGES = ("aiokafka", "pydantic", "kafkaesk-core")
PEER_PACKAGES = {
    "kafkaesk-0.8": "kafkaesk",
    "faststream": "faststream",
    "confluent-kafka": "confluent-kafka",
}


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{datetime.datetime.now():%H:%M:%S} {text}\n")
    sys.stdout.flush()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="\n".join(["more:", *(f"  bench {n:8} {text}" for n, text in SUBCOMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [case.name for case in CASES] + list(EXTRAS)
    parser.add_argument("--case", action="append", choices=names, help="may be repeated")
    parser.add_argument("--bed", action="append", choices=list(BEDS), help="may be repeated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1, help="of the order in each round")
    parser.add_argument("--quick", action="store_true", help="two minutes: few cases and rounds")
    parser.add_argument("--against", metavar="REV", help="beside another revision of this library")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw into this folder")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write Markdown, and the plots")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the results, and write the report."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given and given[0] in SUBCOMMANDS:
        import_module(f"benchmarks.{given[0]}").main(given[1:])
        return
    arguments = _arguments(given)
    beds = arguments.bed or (["embedded"] if arguments.quick else list(BEDS))
    cases = [case for case in CASES if _is_chosen(case, arguments)]
    if arguments.against:
        _compare(arguments, beds, cases)
        return
    if arguments.quick:
        cases = [_without_peers(case) for case in cases]
    measured: dict[str, Results] = {}
    extras: dict[str, Section] = {}
    for bed in beds:
        with BEDS[bed]() as servers:
            count = QUICK_COUNT if arguments.quick else COUNTS[bed]
            bench = Bench(bed, servers, count, say)
            rounds = 3 if arguments.quick else arguments.rounds
            measured[bed] = bench.run(cases, rounds, arguments.seed)
            for name, extra in EXTRAS.items():
                chosen = name in (arguments.case or ()) or not (arguments.case or arguments.quick)
                if chosen and bed in extra.beds:
                    say(f"{bed}: {name}")
                    extras[name] = extra.run(servers)
    _write(arguments, cases, measured, extras)


def _compare(arguments: argparse.Namespace, beds: Sequence[str], cases: Sequence[Case]) -> None:
    with checked_out(arguments.against) as tree:
        both = [beside(case, arguments.against, tree) for case in cases]
        for bed in beds:
            with BEDS[bed]() as servers:
                count = QUICK_COUNT if arguments.quick else COUNTS[bed]
                results = Bench(bed, servers, count, say).run(
                    both, arguments.rounds, arguments.seed
                )
            sys.stdout.write(f"\n## {TITLES[bed]}\n\n{compared(both, results)}\n")


def _is_chosen(case: Case, arguments: argparse.Namespace) -> bool:
    if arguments.case:
        return case.name in arguments.case
    return case.is_quick or not arguments.quick


def _without_peers(case: Case) -> Case:
    """Return the case with only ours and the control, and the targets against the control."""
    both = case.contestants[:2]
    targets = tuple(target for target in case.targets if target.over == both[1].name)
    return Case(case.name, case.title, both, targets)


def _write(
    arguments: argparse.Namespace,
    cases: Sequence[Case],
    measured: dict[str, Results],
    extras: dict[str, Section],
) -> None:
    folder = arguments.plot or (arguments.report and arguments.report.parent)
    parts = []
    for bed, results in measured.items():
        parts.append(f"## {TITLES[bed]}\n")
        parts += [table(case, results[case.name], bed) for case in cases]
    parts += ["## Beside\n"] if extras else []
    for extra in extras.values():
        parts.append(extra.text)
        for curves in extra.pictures if folder else ():
            path = folder / f"performance-{curves.name}.png"
            draw_curves(curves, path)
            parts.append(f"![{curves.name}]({path.name})\n")
    text = "\n".join(parts)
    sys.stdout.write("\n" + text + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(_as_json(measured, extras), indent=1))
    pictures = []
    for bed, results in measured.items() if folder and cases else ():
        path = folder / f"performance-{bed}.png"
        draw([(case, results[case.name]) for case in cases], path)
        pictures.append(f"![{TITLES[bed]}]({path.name})")
    if arguments.report:
        arguments.report.write_text("\n".join([_head(), *pictures, "", text]))


def _as_json(measured: dict[str, Results], extras: dict[str, Section]) -> dict[str, Any]:
    return {
        "about": _about(),
        "cases": {
            bed: {
                case: {name: [asdict(one) for one in all_] for name, all_ in by_name.items()}
                for case, by_name in results.items()
            }
            for bed, results in measured.items()
        },
        "extras": {name: asdict(extra) for name, extra in extras.items()},
    }


def _about() -> dict[str, str]:
    """Return the versions, the machine, the date and the command."""
    about = {name: version(name) for name in PACKAGES}
    for peer, package in PEER_PACKAGES.items():
        code = f"from importlib.metadata import version; print(version({package!r}))"
        done = subprocess.run(
            [peer_python(peer), "-c", code], check=True, capture_output=True, text=True
        )
        about[f"{package} (peer)"] = done.stdout.strip()
    about["Python"] = platform.python_version()
    about["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    about["date"] = f"{datetime.datetime.now():%Y-%m-%d}"
    about["command"] = shlex.join(["uv run bench", *sys.argv[1:]]).replace("'", "")
    return about


def _head() -> str:
    about = ", ".join(f"{name} {value}" for name, value in _about().items())
    return HEAD.format(about=about)

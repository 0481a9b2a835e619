"""`uv run faults`: injects every fault in the list, and writes the report.

Every run is seeded: the same seed picks the same targets in the same order. The figures of each row
are stored in the report's folder; `--resume` continues where an earlier call stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from .figures import figures_of, read_figures, save_figures
from .mutants import sample
from .mutations import mutate
from .peers import COMPARED
from .plots import draw
from .quick import play_quickly
from .report import TestRun, headline, report
from .rows import ROWS, TESTS, scenarios_of, tests_of
from .scenario import Outcome, Scenario, play
from .soak import SOAK, Soak

__all__ = ["main"]

FLAT = {"memory": 60.0, "descriptors": 60.0, "tasks": 60.0}
"""The allowed growth per hour in a soak: MiB, descriptors, tasks."""


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{datetime.datetime.now():%H:%M:%S} {text}\n")
    sys.stdout.flush()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", action="append", metavar="ROW", help="F12; may be repeated")
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="chooses targets and moments; the same seed, the same run",
    )
    parser.add_argument("--rounds", type=int, help="number of rounds, instead of each row's own")
    parser.add_argument("--report", type=Path, default=Path("out"), metavar="FOLDER")
    parser.add_argument(
        "--resume", action="store_true", help="skip the rows that the folder already has"
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="length of the soak, F44")
    parser.add_argument(
        "--no-peers", action="store_true", help="do not compare with other libraries"
    )
    parser.add_argument(
        "--quick", action="store_true", help="instead: check every rule in a few minutes"
    )
    parser.add_argument(
        "--mutants",
        type=int,
        metavar="COUNT",
        help="instead: try so many small changes to the engine",
    )
    parser.add_argument(
        "--mutations", action="store_true", help="instead: put known defects back, one at a time"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Play the scenarios and write the report; exit with 1 after a violation."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("faults: terminated"))
    arguments = _arguments(argv)
    rows = arguments.only or list(ROWS)
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        sys.exit(f"faults: there is no row {', '.join(unknown)}; rows are {', '.join(ROWS)}")
    if arguments.mutations:
        sys.exit(0 if mutate(say) else 1)
    if arguments.mutants:
        sample(arguments.mutants, arguments.seed, say)
        return
    if arguments.quick:
        _end(play_quickly(arguments.seed, say))
    kept = arguments.report / "faults"
    if not (arguments.resume or arguments.only):
        for old in (*kept.glob("*.json"), *kept.glob("commands")):
            old.unlink()
    problems = _play_rows(rows, arguments, kept)
    text = shlex.join(["uv run faults", *(sys.argv[1:] if argv is None else argv)]).strip("'")
    _write_report(arguments, kept, text.replace("'", ""))
    _end(problems)


def _end(problems: Sequence[str]) -> NoReturn:
    for problem in problems:
        say(f"FAILED: {problem}")
    sys.exit(1 if problems else 0)


def _play_rows(rows: Iterable[str], arguments: argparse.Namespace, kept: Path) -> list[str]:
    problems: list[str] = []
    for row in rows:
        for scenario in _scenarios(row, peers=not arguments.no_peers):
            problems += _play(scenario, arguments, kept)
        if row == SOAK.row:
            problems += _soak(arguments, kept)
        problems += _run_tests(row, arguments, kept)
    return problems


def _scenarios(row: str, *, peers: bool) -> list[Scenario]:
    compared = [scenario for scenario in COMPARED if scenario.row == row]
    return [*scenarios_of(row), *(compared if peers else ())]


def _play(scenario: Scenario, arguments: argparse.Namespace, kept: Path) -> list[str]:
    rounds = arguments.rounds or scenario.rounds
    library = scenario.workloads[0].library
    name = f"{scenario.row} {scenario.title} ({scenario.bed})"
    if arguments.resume and any(
        figures.name == name and figures.library == library for figures in read_figures(kept)
    ):
        return []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        outcome = asyncio.run(play(scenario, Path(folder), seed=arguments.seed, rounds=rounds))
        _keep(outcome, Path(folder), kept)
    save_figures(outcome, kept)
    told = f"{_told(outcome.problems)}{_told_of_letters(outcome)}"
    say(f"{name}, {library}, {rounds} rounds, {outcome.seconds:.0f} s: {told}")
    return [f"{name}: {problem}" for problem in outcome.problems] if library == "kafkaesk" else []


def _keep(outcome: Outcome, folder: Path, kept: Path) -> None:
    """Keep the journals of a run's processes after a violation."""
    if outcome.problems and outcome.scenario.workloads[0].library == "kafkaesk":
        to = kept / "failed" / f"{outcome.scenario.row}-{outcome.seed}"
        shutil.copytree(folder, to, dirs_exist_ok=True)
        say(f"journals and logs: {to}")


def _told(problems: Sequence[str]) -> str:
    return "; ".join(problems) if problems else "passed"


def _told_of_letters(outcome: Outcome) -> str:
    sums = figures_of(outcome).sums
    if not sums["dead"]:
        return ""
    return f"; {sums['dead']:,} dead letters, {sums['dead_twice']:,} more of the same records"


def _soak(arguments: argparse.Namespace, kept: Path) -> list[str]:
    file = kept.parent / "soak.json"
    if arguments.resume and file.exists():
        return []
    soak = Soak(arguments.minutes * 60)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        outcome = asyncio.run(play(SOAK, Path(folder), seed=arguments.seed, rounds=1, drive=soak))
        _keep(outcome, Path(folder), kept)
    slopes = soak.slopes() if len(soak.samples) > 3 else {}
    outcome.problems += [
        f"{name} grows by {max(values):g} per hour"
        for name, values in slopes.items()
        if max(values) > FLAT[name]
    ]
    save_figures(outcome, kept)
    file.write_text(json.dumps({"samples": soak.samples, "slopes": slopes}))
    say(f"F44 soak, {arguments.minutes:g} minutes: {_told(outcome.problems)}; slopes {slopes}")
    return [f"F44: {problem}" for problem in outcome.problems]


# --- rows that are tests


def _run_tests(row: str, arguments: argparse.Namespace, kept: Path) -> list[str]:
    names = tests_of(row)
    file = kept / "tests" / f"{row}.json"
    if not names or (arguments.resume and file.exists()):
        return []
    rounds = arguments.rounds or 1
    passed, failed = 0, []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.xml"
            command = [sys.executable, "-m", "pytest", "-q", "-n0", f"--junitxml={result}", *names]
            subprocess.run(command, cwd=TESTS.parent, check=False, stdout=subprocess.DEVNULL)
            for case in ElementTree.parse(result).iter("testcase"):
                if case.find("failure") is None and case.find("error") is None:
                    passed += case.find("skipped") is None
                else:
                    failed.append(str(case.get("name")))
    run = TestRun(row, tuple(names), rounds, passed, tuple(failed))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(run)))
    say(f"{row}, {len(names)} tests, {rounds} rounds: {_told(failed)}")
    return [f"{row}: {name}" for name in failed]


def _write_report(arguments: argparse.Namespace, kept: Path, command: str) -> None:
    with (kept / "commands").open("a+") as file:  # rows may be played again
        file.write(f"{command}\n")
        file.seek(0)
        commands = "` and `".join(dict.fromkeys(file.read().splitlines()))
    runs = read_figures(kept)
    tests = [TestRun(**json.loads(path.read_text())) for path in (kept / "tests").glob("*.json")]
    soak = kept.parent / "soak.json"
    draw(runs, json.loads(soak.read_text()) if soak.exists() else None, arguments.report)
    today = datetime.date.today().isoformat()
    about = {"seed": str(arguments.seed), "date": today, "command": commands}
    text = report(runs, tests, arguments.report, **about)
    (arguments.report / "reliability.md").write_text(text)
    values = {"command": commands, "date": today, "runs": [asdict(run) for run in runs]}
    (arguments.report / "reliability.json").write_text(json.dumps(values))
    say(headline([run for run in runs if run.library == "kafkaesk"]))
    say(f"report: {arguments.report / 'reliability.md'}")

"""A sample of small changes to the engine, each tried on the fast tests of its part.

cosmic-ray makes the changes: a reversed comparison, a number increased by one, a removed statement.
The seed chooses the places, so the same command tries the same changes on the same code.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from queue import Queue
from typing import Any

from .mutations import LEFT_OUT, ROOT, run_tests

__all__ = ["PARTS", "Part", "sample"]

LIMIT = 90.0
"""Seconds for the tests of one part; a change that lets them hang is caught."""

JOBS = 3
"""Copies of the project that are tried at once, because tests mostly wait for timers."""

TESTS = Path(__file__).parents[1] / "tests"
FAMILIES = (
    "AddNot",
    "ReplaceComparisonOperator",
    "ReplaceBinaryOperator",
    "ReplaceUnaryOperator",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ZeroIterationForLoop",
    "NumberReplacer",
)
"""The operators in use; `|` is left out, because annotations use it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some modules of the core, and the test files that must catch defects in them."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        """The test files."""
        found = {path.stem.removeprefix("test_"): path for path in TESTS.rglob("test_*.py")}
        return [str(found[name].relative_to(TESTS.parent)) for name in self.tests]

    def files(self, root: Path) -> list[Path]:
        """The modules; a folder stands for all modules in it."""
        core = root / "kafkaesk_core"
        folders = (core / name for name in self.modules)
        found = ([path] if path.is_file() else path.glob("*.py") for path in folders)
        return sorted(path for paths in found for path in paths if path.stem != "__init__")


PARTS = (
    Part(
        "offsets and scheduling",
        ("offsets.py", "lanes.py", "scheduler.py"),
        ("offsets", "lanes", "batches", "commits", "handover", "dispatch", "fast_path"),
    ),
    Part(
        "consumer",
        ("consumer",),
        (
            *(
                "commits",
                "commit_loop",
                "commit_layers",
                "handling",
                "dispatch",
                "batches",
                "broken_members",
            ),
            *("handover", "freshness", "fast_path", "failed_poll", "member_stop", "new_partitions"),
            *("replacement", "worker_failures", "parsed_records", "missing_topics"),
        ),
    ),
    Part("publisher", ("publisher",), ("delivery", "deliveries", "publisher", "stop_order")),
    Part(
        "kafka",
        ("kafka",),
        (
            *(
                "commit_client",
                "membership_identity",
                "kafka_errors",
                "admin",
                "new_partitions",
                "starting",
                "topics",
            ),
            *("unreadable_records", "parsed_records", "failed_poll", "member_stop", "publisher"),
            *("replacement", "broken_members", "optional_libraries", "stop_order"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Change:
    """One change: its place, its kind, and the changed source."""

    part: Part
    module: str
    line: int
    kind: str
    before: str
    after: str

    def __str__(self) -> str:
        lines = unified_diff(self.before.splitlines(), self.after.splitlines(), n=0, lineterm="")
        changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        return f"{self.module}:{self.line} ({self.kind})\n    " + "\n    ".join(changed)


def sample(count: int, seed: int, say: Callable[[str], None]) -> None:
    """Try changes at a number of places, and report the changes that no test catches."""
    changes = _chosen(count, seed)
    survived: list[Change] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: Queue[Path] = Queue()
        for number in range(JOBS):
            copies.put(shutil.copytree(ROOT, Path(folder) / str(number), ignore=LEFT_OUT))
        for part in PARTS:
            test = _failure(copies.queue[0], part)
            assert test is None, f"{test} fails without any change"
        with ThreadPoolExecutor(JOBS) as pool:
            for change, test in pool.map(lambda change: _try(change, copies), changes):
                if test is None:
                    survived.append(change)
                    say(f"SURVIVES: {change}")
    for part in PARTS:
        all_of = sum(change.part is part for change in changes)
        left = sum(change.part is part for change in survived)
        say(f"{part.name}: {all_of - left} of {all_of} caught")
    caught = len(changes) - len(survived)
    say(f"{caught} of {len(changes)} changes caught, {100 * caught / len(changes):.0f} %")


def _try(change: Change, copies: Queue[Path]) -> tuple[Change, str | None]:
    copy = copies.get()
    file = copy / change.module
    try:
        file.write_text(change.after)
        return change, _failure(copy, change.part)
    finally:
        file.write_text(change.before)
        copies.put(copy)


def _failure(copy: Path, part: Part) -> str | None:
    return run_tests(copy, *part.paths, limit=LIMIT)


# --- the changes


def _chosen(count: int, seed: int) -> list[Change]:
    places: dict[tuple[str, int, int], list[Callable[[], Change]]] = defaultdict(list)
    for part in PARTS:
        for path in part.files(ROOT):
            for at, change in _changes(part, path):
                places[str(path), *at].append(change)
    chooser = random.Random(seed)
    chosen = chooser.sample(sorted(places), min(count, len(places)))
    return [chooser.choice(places[place])() for place in chosen]


def _changes(part: Part, path: Path) -> Iterator[tuple[tuple[int, int], Callable[[], Change]]]:
    """Return all changes of a module by place; a change is made when called."""
    from cosmic_ray.ast import ast_nodes, get_ast

    source = path.read_text()
    nodes = list(ast_nodes(get_ast(source)))
    for kind, operator in _operators():
        found = (at for node in nodes for at, _ in operator.mutation_positions(node))
        for occurrence, at in enumerate(found):

            def change(
                kind: str = kind, operator: Any = operator, number: int = occurrence, at: Any = at
            ) -> Change:
                from cosmic_ray.mutating import mutate_code

                after = mutate_code(source, operator, number)
                name = str(path.relative_to(ROOT))
                return Change(part, name, at[0], kind, source, after)

            yield at, change


def _operators() -> Iterable[tuple[str, Any]]:
    import parso.python.tree  # noqa: F401 - cosmic-ray does not find its operators without
    from cosmic_ray.plugins import get_operator, operator_names

    for name in operator_names():
        kind = name.rpartition("/")[2]
        if kind.startswith(FAMILIES) and "BitOr" not in kind:
            yield kind, get_operator(name)()
    yield "LeaveOutStatement", _LeaveOut()


class _LeaveOut:
    """Removes one statement of a function, except statements that only log."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type != "simple_stmt" or not _is_in_function(node):
            return
        text = node.get_code().strip()
        is_idle = text.startswith(("logger.debug", "logger.info", "import ", "from ", '"', "'"))
        is_annotation = ": " in text and "=" not in text
        if not (is_idle or is_annotation or text == "pass" or text == "..."):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, _: int) -> Any:
        from parso.python.tree import Name

        first = node.get_first_leaf()
        node.children[0] = Name("pass", first.start_pos, first.prefix)
        return node


def _is_in_function(node: Any) -> bool:
    while node is not None and node.type not in ("funcdef", "classdef"):
        node = node.parent
    return node is not None and node.type == "funcdef"

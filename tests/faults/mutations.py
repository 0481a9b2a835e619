"""Known defects, put back one at a time into a copy of the project: the suite must fail on each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTATIONS", "Mutation", "mutate"]

ROOT = Path(__file__).parents[2]
SUITE = ("tests/core", "tests/integration", "tests/faults")
NO_SUITE = "tests/faults/test_mutations.py"  # it looks at the code, and would catch anything
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "out", "docs")
LIMIT = 900.0


@dataclass(frozen=True, slots=True)
class Mutation:
    """A defect: in `file`, `right` is replaced by `wrong`."""

    defect: str
    what: str
    file: str
    right: str
    wrong: str


MUTATIONS = (
    Mutation(
        "U1",
        "a client's error out of a handler passes for a handled record",
        "kafkaesk_core/consumer/handling.py",
        "        outcome = self.failures.decide(error, job)\n",
        "        outcome = self.failures.decide(error, job)\n"
        "        if type(error).__module__ == 'aiokafka.errors':\n"
        "            outcome = DONE\n",
    ),
    Mutation(
        "U2",
        "an offset may be committed before its handler has ended",
        "kafkaesk_core/consumer/handling.py",
        "            try:\n                await self.layers(job)\n",
        "            p = job.portion\n"
        "            p.finish(job.record.offset)\n"
        "            job.is_closed = True\n"
        "            try:\n                await self.layers(job)\n",
    ),
    Mutation(
        "U3",
        "the highest finished offset is committed, not the lowest open one",
        "kafkaesk_core/ledger.py",
        "        return self.open[0] if self.open else self.position\n",
        "        if self.done:\n            return max(self.done) + 1\n"
        "        return self.open[0] if self.open else self.position\n",
    ),
    Mutation(
        "U9",
        "a rewind is not followed",
        "kafkaesk_core/ledger.py",
        "        self.assign([partition])\n        tracker = self._trackers[partition]\n",
        "        tracker = self._trackers[partition]\n",
    ),
    Mutation(
        "U10",
        "nothing is committed on a clean stop",
        "kafkaesk_core/consumer/rebalance.py",
        "        if self._commits_automatically:\n            await self._commit(reason)\n",
        "        if self._commits_automatically and reason != 'stop':\n"
        "            await self._commit(reason)\n",
    ),
    Mutation(
        "U11",
        "a member without partitions is not polled",
        "kafkaesk_core/consumer/polling.py",
        "        member = self._seat.member\n        wanted = self._intake.wanted()\n",
        "        member = self._seat.member\n"
        "        if not self._ledger and member.is_joined:\n"
        "            await asyncio.sleep(0.05)\n            return False\n"
        "        wanted = self._intake.wanted()\n",
    ),
    Mutation(
        "U12",
        "nothing is committed when partitions are revoked",
        "kafkaesk_core/consumer/rebalance.py",
        "        if self._commits_automatically:\n            await self._commit(reason)\n",
        "        if self._commits_automatically and reason != 'revoke':\n"
        "            await self._commit(reason)\n",
    ),
    Mutation(
        "U13",
        "completions of an earlier assignment count",
        "kafkaesk_core/ledger.py",
        "tracker.epoch == epoch and tracker.finish(offset)",
        "tracker.finish(offset)",
    ),
    Mutation(
        "own 1",
        "commits go on between a revocation and the next assignment",
        "kafkaesk_core/consumer/commits.py",
        "        self._is_open = False\n        running = ",
        "        running = ",
    ),
    Mutation(
        "own 2",
        "records that a failed poll had drained are skipped",
        "kafkaesk_core/kafka/consumer.py",
        "            self._rewind(wanted, before)\n",
        "",
    ),
    Mutation(
        "own 3",
        "sequence numbers of a refused batch are not taken back",
        "kafkaesk_core/publisher/handover.py",
        "            session.producer.undo(topic, partition, self._batch.count)\n",
        "            pass\n",
    ),
    Mutation(
        "own 4",
        "records of one key run at once",
        "kafkaesk_core/consumer/intake.py",
        '    "key": _record_key,\n',
        '    "key": _own_key,\n',
    ),
)


def mutate(say: Callable[[str], None]) -> bool:
    """Put each defect back and run the suite; returns whether it failed on every one.

    A test that fails is run again without the defect: there it must pass.
    """
    caught = 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        for mutation in MUTATIONS:
            right = _apply(mutation, copy)
            test = _first_failure(copy, *SUITE)
            (copy / mutation.file).write_text(right)
            if test is None:
                told = "NOT CAUGHT"
            elif _first_failure(copy, test) is not None:
                told = f"NOT CAUGHT: {test} fails without it too"
            else:
                told, caught = test, caught + 1
            say(f"{mutation.defect}: {mutation.what}: {told}")
    say(f"{caught} of {len(MUTATIONS)} defects caught")
    return caught == len(MUTATIONS)


def _apply(mutation: Mutation, copy: Path) -> str:
    """Put a defect into the copy; returns what was right."""
    file = copy / mutation.file
    text = file.read_text()
    if text.count(mutation.right) != 1:
        raise SystemExit(f"{mutation.defect} does not fit {mutation.file} any more; adapt it")
    file.write_text(text.replace(mutation.right, mutation.wrong))
    return text


def _first_failure(copy: Path, *tests: str) -> str | None:
    """The first test that fails in the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider"]
    command += [f"--ignore={NO_SUITE}", *tests]
    done = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    found = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return found.group(1) if found else None

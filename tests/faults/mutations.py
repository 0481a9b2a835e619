"""Known defects, put back one at a time into a copy of the project: the suite must fail on each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .mutation import Mutation

__all__ = ["MUTATIONS", "mutate"]

ROOT = Path(__file__).parents[2]
SUITE = ("tests/core", "tests/integration", "tests/faults")
NO_SUITE = "tests/faults/test_mutations.py"  # it looks at the code, and would catch anything
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "out", "docs")
LIMIT = 900.0


MUTATIONS = (
    Mutation(
        "U1",
        "a client's error out of a handler passes for a handled record",
        "MessageHandling._failed",
        "outcome = self.failures.decide(error, job)",
        """
        outcome = self.failures.decide(error, job)
        if type(error).__module__ == "aiokafka.errors":
            outcome = DONE
        """,
    ),
    Mutation(
        "U2",
        "an offset may be committed before its handler has ended",
        "MessageHandling.run",
        "await self.layers(job)",
        """
        job.portion.finish(job.record.offset)
        job.is_closed = True
        await self.layers(job)
        """,
    ),
    Mutation(
        "U3",
        "the highest finished offset is committed, not the lowest open one",
        "_Tracker.watermark",
        "return self.open[0] if self.open else self.position",
        """
        if self.done:
            return max(self.done) + 1
        return self.open[0] if self.open else self.position
        """,
    ),
    Mutation("U9", "a rewind is not followed", "Ledger.start_at", "self.assign([partition])", ""),
    Mutation(
        "U10",
        "nothing is committed on a clean stop",
        "Rebalance._finish",
        "await self._commit(reason)",
        """
        if reason != "stop":
            await self._commit(reason)
        """,
    ),
    Mutation(
        "U11",
        "a member without partitions is not polled",
        "Polling._poll",
        "wanted = self._intake.wanted()",
        """
        if not self._ledger and member.is_joined:
            await asyncio.sleep(0.05)
            return False
        wanted = self._intake.wanted()
        """,
    ),
    Mutation(
        "U12",
        "nothing is committed when partitions are revoked",
        "Rebalance._finish",
        "await self._commit(reason)",
        """
        if reason != "revoke":
            await self._commit(reason)
        """,
    ),
    Mutation(
        "U13",
        "completions of an earlier assignment count",
        "Ledger.finish",
        "tracker.epoch == epoch",
        "True",
    ),
    Mutation(
        "own 1",
        "commits go on between a revocation and the next assignment",
        "Commits.close",
        "self._is_open = False",
        "",
    ),
    Mutation(
        "own 2",
        "records that a failed poll had drained are skipped",
        "GroupMember.poll",
        "self._rewind(wanted, before)",
        "",
    ),
    Mutation(
        "own 3",
        "sequence numbers of a refused batch are not taken back",
        "Handover._take_back",
        "session.producer.undo(topic, partition, self._batch.count)",
        "",
    ),
    Mutation("own 4", "records of one key run at once", "_KEYS", "_record_key", "_own_key"),
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
            file = mutation.file_in(copy)
            right = file.read_text()
            file.write_text(mutation.apply(right))
            test = _first_failure(copy, *SUITE)
            file.write_text(right)
            if test is None:
                told = "NOT CAUGHT"
            elif _first_failure(copy, test) is not None:
                told = f"NOT CAUGHT: {test} fails without it too"
            else:
                told, caught = test, caught + 1
            say(f"{mutation.defect}: {mutation.what}: {told}")
    say(f"{caught} of {len(MUTATIONS)} defects caught")
    return caught == len(MUTATIONS)


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

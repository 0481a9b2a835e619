"""Known defects, inserted one at a time into a copy of the project; the suite must fail on each."""

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

__all__ = ["LEFT_OUT", "MUTATIONS", "ROOT", "mutate", "run_tests"]

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "out", "docs")
LIMIT = 300.0
"""Seconds for the tests of one defect."""

COMMITS = "tests/commits/test_commits.py"
COMMIT_LOOP = "tests/commits/test_commit_loop.py"
HANDLING = "tests/consuming/test_handling.py"
HANDOVER = "tests/rebalancing/test_handover.py"
DISPATCH = "tests/consuming/test_dispatch.py"
OFFSETS = "tests/commits/test_offsets.py"
MEMBER_STOP = "tests/rebalancing/test_member_stop.py"
MEMBERSHIP = "tests/rebalancing/test_membership_identity.py"
COMMIT_CLIENT = "tests/commits/test_commit_client.py"
POLL = "tests/consuming/test_failed_poll.py"
PUBLISHER = "tests/publishing/test_publisher.py"

MUTATIONS = (
    Mutation(
        "U1",
        "a client's error out of a handler passes for a handled record",
        "MessageHandling._decide",
        "outcome = self.error_policy.decide(error, message)",
        """
        outcome = self.error_policy.decide(error, message)
        if type(error).__module__ == "aiokafka.errors":
            outcome = DONE
        """,
        tests=(HANDOVER,),
    ),
    Mutation(
        "U2",
        "an offset may be committed before its handler has ended",
        "MessageHandling.run",
        "await self._layers(message)",
        """
        message.batch.finish(message.record.offset)
        message.is_closed = True
        await self._layers(message)
        """,
        tests=(HANDLING,),
    ),
    Mutation(
        "U3",
        "the highest finished offset is committed, not the lowest open one",
        "_PartitionTracker.watermark",
        "return self.open[0] if self.open else self.position",
        """
        if self.done:
            return max(self.done) + 1
        return self.open[0] if self.open else self.position
        """,
        tests=(OFFSETS,),
    ),
    Mutation(
        "U9",
        "a rewind is not followed",
        "OffsetTracker.start_at",
        "self.assign([partition])",
        "",
        tests=(OFFSETS,),
    ),
    Mutation(
        "U10",
        "nothing is committed on a clean stop",
        "Rebalance._finish",
        "await self._commit(reason)",
        """
        if reason != "stop":
            await self._commit(reason)
        """,
        tests=(HANDOVER,),
    ),
    Mutation(
        "U11",
        "a member without partitions is not polled",
        "Polling._poll",
        "room = self._dispatcher.wanted()",
        """
        if not self._offsets and member.is_joined:
            await asyncio.sleep(0.05)
            return False
        room = self._dispatcher.wanted()
        """,
        tests=(HANDOVER,),
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
        tests=(HANDOVER,),
    ),
    Mutation(
        "U13",
        "completions of an earlier assignment count",
        "OffsetTracker.finish",
        "tracker.epoch == epoch",
        "True",
        tests=(OFFSETS,),
    ),
    Mutation(
        "own 1",
        "commits go on between a revocation and the next assignment",
        "OffsetCommitter.suspend",
        "self._is_open = False",
        "",
        tests=(HANDOVER,),
    ),
    Mutation(
        "own 2",
        "records that a failed poll had drained are skipped",
        "GroupMember.poll",
        "self._rewind(wanted, before)",
        "",
        tests=(POLL,),
    ),
    Mutation(
        "own 3",
        "sequence numbers of a refused batch are not taken back",
        "BatchSender._undo",
        "session.producer.undo(topic, partition, self.batch.count)",
        "",
        tests=(PUBLISHER,),
    ),
    Mutation(
        "own 4",
        "records of one key run at once",
        "Dispatcher._queue",
        "entry[1].key",
        "None",
        tests=(DISPATCH,),
    ),
    Mutation(
        "own 5",
        "a revocation lets commits go on",
        "Rebalance._finish",
        "await self._commits.suspend()",
        "",
        tests=(HANDOVER,),
    ),
    Mutation(
        "own 6",
        "a lost membership lets commits go on",
        "Rebalance._lose",
        "await self._commits.suspend()",
        "",
        tests=(HANDOVER,),
    ),
    Mutation(
        "own 7",
        "a stop drains as long as a revocation may, whatever is left of its time",
        "Rebalance.stop",
        'await self._hand_over("stop", min(self._limits.drain, shutdown.left("drain")))',
        'await self._hand_over("stop", self._limits.drain)',
        tests=(HANDOVER,),
    ),
    Mutation(
        "own 8",
        "a commit that was not answered is taken for not stored",
        "OffsetCommitter._answer",
        "self._offsets.mark_uncertain(offsets)",
        "",
        tests=(COMMITS,),
    ),
    Mutation(
        "own 9",
        "a commit that was cancelled is taken for not stored",
        "OffsetCommitter._send_noted",
        "self._offsets.mark_uncertain(clamped)",
        "",
        tests=(COMMITS,),
    ),
    Mutation(
        "own 10",
        "a commit of an earlier epoch that was stored is forgotten",
        "OffsetTracker.acknowledge",
        "tracker.is_uncertain = True",
        "",
        tests=(COMMITS, OFFSETS),
    ),
    Mutation(
        "own 11",
        "a commit that is sent again covers nothing",
        "OffsetTracker.mark_uncertain",
        "tracker.is_uncertain = True",
        """
        tracker.is_uncertain = True
        tracker.proposed = tracker.covered
        """,
        tests=(COMMITS, OFFSETS),
    ),
    Mutation(
        "own 12",
        "a full batch lingers on",
        "PartitionQueue.begin",
        "self._hurry()",
        "",
        tests=(PUBLISHER,),
    ),
    Mutation(
        "own 13",
        "who is cancelled once let in keeps the room",
        "WaitQueue.wait",
        "self._give_back(size)",
        "",
        tests=(PUBLISHER,),
    ),
    Mutation(
        "own 14",
        "a member that is not in the group commits",
        "CommitLoop.run",
        "self._member().is_stable",
        "self._member() is not None",
        tests=(COMMIT_LOOP,),
    ),
    Mutation(
        "own 15",
        "a member commits after its revocation",
        "Listener.on_partitions_revoked",
        "self._member.forget_membership()",
        "",
        tests=(MEMBERSHIP,),
    ),
    Mutation(
        "own 16",
        "the stop does not end the poll loop",
        "GroupConsumer.stop",
        "self._polling.is_ended = self._commit_loop.is_ended = True",
        "self._commit_loop.is_ended = True",
        tests=(MEMBER_STOP,),
    ),
    Mutation(
        "own 17",
        "a commit that the coordinator was too slow for is not sent again",
        "RETRIED",
        "(7, 14, 15, 16)",
        "(14, 15, 16)",
        tests=(COMMIT_CLIENT,),
    ),
)


def mutate(say: Callable[[str], None]) -> bool:
    """Insert each defect, and run the tests that must catch it; return whether all were caught.

    A failing test is run again without the defect, where it must pass.
    """
    caught = 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        for mutation in MUTATIONS:
            file = mutation.file_in(copy)
            right = file.read_text()
            file.write_text(mutation.apply(right))
            test = run_tests(copy, *mutation.tests, limit=LIMIT)
            file.write_text(right)
            if test is None:
                told = "NOT CAUGHT"
            elif run_tests(copy, test, limit=LIMIT) is not None:
                told = f"NOT CAUGHT: {test} fails without it too"
            else:
                told, caught = test, caught + 1
            say(f"{mutation.defect}: {mutation.what}: {told}")
    say(f"{caught} of {len(MUTATIONS)} defects caught")
    return caught == len(MUTATIONS)


def run_tests(copy: Path, *tests: str, limit: float) -> str | None:
    """Return the first of these tests that fails in a copy of the project; None if all pass.

    Tests that hang for `limit` seconds count as failed, as does a file that cannot be imported.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, "--timeout=60", *tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return tests[0]
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return found.group(1) if found else tests[0]

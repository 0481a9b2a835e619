"""Points between a failure and its commit: a member stands still where it is asked to, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from faults.points import point_file

PASSING = """
import sys
from faults.journal import Journal
from faults.points import Points
from faults.workload import Task, Workload

folder = sys.argv[1]
journal = f"{folder}/member.journal"
points = Points(Task(Workload("w"), (), "topic", journal, 1), Journal(journal))
for point in ("failed", "settled", "settled"):
    points.reach(point)
"""


def test_a_member_stands_still_at_the_point_that_is_asked_for_and_at_no_other(
    tmp_path: Path,
) -> None:
    point_file(tmp_path, "topic", "settled").touch()
    member = subprocess.Popen([sys.executable, "-c", PASSING, str(tmp_path)])

    _, status = os.waitpid(member.pid, os.WUNTRACED)
    told = (tmp_path / "member.journal").read_text().split()
    os.kill(member.pid, signal.SIGCONT)

    assert os.WIFSTOPPED(status)
    assert (told[0], told[2:]) == ("reached", ["settled"])
    assert member.wait(30) == 0, "the second time nobody asks"

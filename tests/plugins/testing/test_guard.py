import os
import signal
import subprocess
import sys
from collections.abc import Callable

PARENT = """
import subprocess, sys, signal
from kafkaesk_testing.node import Guard
guard = Guard()
guard.start()
processes = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3)]
for process in processes:
    guard.add(process.pid)
guard.remove(processes[1].pid)
print(*[process.pid for process in processes], flush=True)
signal.pause()
"""


def test_what_is_listed_dies_with_a_parent_that_was_killed(
    wait_for: Callable[[Callable[[], bool]], None], exists: Callable[[int], bool]
) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        first, removed, last = map(int, parent.stdout.readline().split())

        parent.kill()
        parent.wait()

        try:
            wait_for(lambda: not exists(first) and not exists(last))
            assert exists(removed)
        finally:
            os.kill(removed, signal.SIGKILL)

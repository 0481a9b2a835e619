"""Ends brokers whose Python process died without stopping them."""

import subprocess
from contextlib import suppress

# The pipe is closed by the system however the parent ends, SIGKILL included; then what is still
# listed is killed. What was ended in order is taken off the list: its id may be used again.
_SCRIPT = """
pids=
while read -r action pid; do
    kept=
    for known in $pids; do
        [ "$known" = "$pid" ] || kept="$kept $known"
    done
    pids=$kept
    [ "$action" = add ] && pids="$pids $pid"
done
[ -z "$pids" ] || kill -9 $pids
"""


class Guard:
    """A shell that waits for this process to end, then kills the processes listed with it."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the shell, in its own session: Ctrl-C does not reach it."""
        self._shell = subprocess.Popen(
            ["sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, pid: int) -> None:
        """Kill the process ``pid`` should this one end."""
        self._tell("add", pid)

    def remove(self, pid: int) -> None:
        """Forget ``pid``: it has ended."""
        self._tell("remove", pid)

    def stop(self) -> None:
        """Kill what is still listed and end the shell."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.communicate(timeout=10)

    def _tell(self, action: str, pid: int) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(BrokenPipeError):  # somebody killed the shell: brokers go on without it
                self._shell.stdin.write(f"{action} {pid}\n".encode())
                self._shell.stdin.flush()

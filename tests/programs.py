"""Programs that tests start: each in a process of its own, with what it prints in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["LIMIT", "Program", "kafkaesk"]

LIMIT = 30.0


class Program:
    """A running program; it is killed at the end of its `with` block.

    What it prints goes to the file `output`, by default in `folder`, and with `errors` its standard
    error goes to that file. `environment` is added to that of the tests.
    """

    def __init__(
        self,
        *command: str | Path,
        folder: Path,
        output: Path | None = None,
        errors: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.output = output or folder / "output"
        self.errors = errors or self.output
        with self.output.open("wb") as file, self.errors.open("ab") as errors_file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdout=file,
                stderr=errors_file if errors else file,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def wait_for(self, *texts: str, within: float = LIMIT) -> None:
        """Block until it has printed each of these texts; it may have ended well by then."""
        deadline = time.monotonic() + within
        while missing := [text for text in texts if text not in self.printed]:
            ended = self.process.poll()
            if ended is not None and all(text in self.printed for text in texts):
                return
            assert ended is None, f"it ended with {ended} without {missing}: {self.printed}"
            assert time.monotonic() < deadline, f"no {missing} within {within:g} s: {self.printed}"
            time.sleep(0.02)

    def end(self, number: signal.Signals | None = None, *, within: float = LIMIT) -> int:
        """Send it a signal, if one is given, and return its exit code when it has ended."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(within)

    def kill(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.wait()


def kafkaesk(*arguments: str, folder: Path, **environment: str) -> Program:
    """Start the command `kafkaesk`."""
    command = (sys.executable, "-m", "kafkaesk_core", *arguments)
    return Program(*command, folder=folder, environment=environment)

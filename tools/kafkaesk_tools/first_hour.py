"""`uv run first-hour`: the time from `pip install` to the first handled message of a new service.

It builds the wheels, creates a fresh virtual environment, and follows the guide "Develop".
Third-party packages come from pip's index, so the first figure depends on the network.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
ORDER = '{"number": 1, "article": "tea", "cents": 350}'
PATIENCE = 300.0


def main() -> None:
    """Do every step once, and print its duration."""
    with TemporaryDirectory(prefix="first-hour-") as folder:
        _Session(Path(folder)).play()


class _Session:
    """One session in a folder, and the seconds of its steps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "PATH": f"{folder}/venv/bin{os.pathsep}{os.environ['PATH']}",
            "PIP_FIND_LINKS": str(folder / "wheels"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self._seconds: dict[str, float] = {}

    def play(self) -> None:
        """Build, install, create, run, publish, handle; then run the checks of the service."""
        self._run("uv", "build", "-q", "--all-packages", "--out-dir", "wheels", str(ROOT))
        venv.create(self._folder / "venv", with_pip=True)
        with self._timed("pip install kafkaesk-dev"):
            self._run("pip", "install", "-q", "kafkaesk-dev")
        with self._timed("kafkaesk new shop"):
            self._run("kafkaesk", "new", "shop")
        self._handle_a_message()
        total = sum(self._seconds.values())
        shop = self._folder / "shop"
        with self._timed("pip install -e '.[dev]'"):
            self._run("pip", "install", "-q", "-e", ".[dev]", folder=shop)
        with self._timed("pytest"):
            self._run("pytest", "-q", folder=shop)
        _tell(total, "from pip install to the first handled message")

    def _handle_a_message(self) -> None:
        shop, log = self._folder / "shop", self._folder / "log"
        with log.open("wb") as file:
            service = subprocess.Popen(
                ["kafkaesk", "dev", "shop.app:app"],
                cwd=shop,
                env=self._environment,
                stdout=file,
                stderr=file,
            )
        try:
            with self._timed("kafkaesk dev shop.app:app, until it consumes"):
                _wait_for(log, "assigned orders.placed")
            (servers,) = re.findall(r"embedded://\S+", log.read_text())
            self._environment["KAFKAESK_KAFKA_SERVERS"] = servers
            with self._timed("kafkaesk publish, until the message is handled"):
                self._run(
                    *("kafkaesk", "publish", "orders.placed", ORDER, "--app", "shop.app:app"),
                    folder=shop,
                )
                _wait_for(log, "sent an invoice of 350 cents for order 1")
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(PATIENCE)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._seconds[step] = time.monotonic() - started
        _tell(self._seconds[step], step)

    def _run(self, *command: str, folder: Path | None = None) -> None:
        done = subprocess.run(
            command,
            cwd=folder or self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _tell(seconds: float, what: str) -> None:
    sys.stdout.write(f"{seconds:8.1f} s  {what}\n")
    sys.stdout.flush()


def _wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while text not in log.read_text():
        if time.monotonic() > deadline:
            sys.exit(f"no {text!r} within {PATIENCE:g} s:\n{log.read_text()}")
        time.sleep(0.02)

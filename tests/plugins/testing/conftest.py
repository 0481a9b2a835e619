"""What several of these tests need."""

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[[str, str], Path]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Make the PATH empty; calls put programs there, each given as the body of a Python script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, body: str) -> Path:
        program = folder / name
        program.write_text(f"#!{sys.executable} -S\nimport os, sys\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return add


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory for Kafka's jars."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kafkaesk-testing" / "kafka-4.3.1"


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Block until a condition holds, 10 seconds at most."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in 10 seconds"
            time.sleep(0.01)

    return wait


@pytest.fixture
def exists() -> Callable[[int], bool]:
    """Say whether there is a process of this id that has not ended."""

    def check(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()

    return check

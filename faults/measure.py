"""What a process uses, as the system tells it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["descriptors", "memory"]


def memory(pid: int) -> float:
    """The memory that a process has, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


def descriptors(pid: int) -> int:
    """How many files and connections a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())

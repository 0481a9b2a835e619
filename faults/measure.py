"""The resources that a process uses, from the operating system."""

from __future__ import annotations

from pathlib import Path

__all__ = ["descriptors", "memory"]


def memory(pid: int) -> float:
    """Return the memory of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


def descriptors(pid: int) -> int:
    """Return the number of open files and connections of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())

"""`uv run check`: formatting, lint, types, the floors, and the project's own rules."""

from __future__ import annotations

import subprocess
import sys
import time

CHECKS = (
    ("format", ["ruff", "format", "--check", "."]),
    ("lint", ["ruff", "check", "."]),
    ("types", ["mypy"]),
    ("floors", ["lint-imports", "--no-cache"]),
    ("rules", ["pytest", "-q", "tests/project", "-m", "not slow"]),
)


def main() -> None:
    """Run every check, even after a failure; exit with 1 if any check fails."""
    failed = []
    for name, command in CHECKS:
        started = time.monotonic()
        result = subprocess.run(command, check=False)
        sys.stdout.write(f"{name}: {'ok' if result.returncode == 0 else 'FAILED'} ")
        sys.stdout.write(f"({time.monotonic() - started:.1f}s)\n")
        if result.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")

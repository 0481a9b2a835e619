"""`uv run bench`: the benchmarks, which live in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run them from the root of the repository, with the arguments that were given."""
    command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)

"""`uv run faults`: the fault suite, which lives in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run it from the root of the repository, with the arguments that were given."""
    command = [sys.executable, "-m", "faults", *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)

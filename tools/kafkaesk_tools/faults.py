"""`uv run faults`: runs the fault suite in the folder faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run the suite from the root of the repository, with the given arguments."""
    command = [sys.executable, "-m", "faults", *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)

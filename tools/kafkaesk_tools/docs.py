"""`uv run docs`: writes the reference pages from the code and builds the site, strictly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kafkaesk_core.cli import SETTING_OPTIONS

from .reference import PAGES, setting_options

__all__ = ["REFERENCE", "main", "write_reference"]

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def main() -> None:
    """Write docs/reference and build `site/`; `uv run docs serve` shows it and follows changes."""
    write_reference()
    command = ["serve"] if sys.argv[1:] == ["serve"] else ["build", "--clean", "--strict"]
    if sys.argv[1:] not in ([], ["serve"]):
        sys.exit(f"unknown arguments {sys.argv[1:]}; usage: uv run docs [serve]")
    done = subprocess.run([sys.executable, "-m", "zensical", *command], cwd=ROOT, check=False)
    sys.exit(done.returncode)


def write_reference() -> None:
    """Write the changed pages, and the options of the command."""
    REFERENCE.mkdir(exist_ok=True)
    SETTING_OPTIONS.write_text(setting_options())
    for name, write in PAGES.items():
        path, text = REFERENCE / name, write()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)

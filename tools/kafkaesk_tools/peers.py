"""Other libraries to compare with, each in its own environment, created when first needed."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

__all__ = ["peer_python"]

FOLDER = Path(__file__).parents[2] / ".venv-peers"
REQUIREMENTS = {
    "kafkaesk-0.8": ["kafkaesk==0.8.7"],
    "faststream": ["faststream[kafka]>=0.7,<0.8"],
    "faust": ["faust-streaming>=0.15,<0.16"],
    "confluent-kafka": ["confluent-kafka>=2.16,<3", "pydantic>=2.7,<3"],
}


def peer_python(library: str) -> Path:
    """Return the Python interpreter of the library's environment."""
    folder = FOLDER / library
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[library]]
        subprocess.run(command, check=True)
        (folder / "complete").touch()
    return python

"""A service as `kafkaesk new` makes it, and commands run in its folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from kafkaesk_core.cli import cli

BIN = Path(sys.executable).parent


class Project:
    """A service that was made; it is as good as installed for programs that run in its folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
        }
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        apps = project["entry-points"]["kafkaesk.apps"]
        info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        lines = (f"{key} = {value}\n" for key, value in apps.items())
        (info / "entry_points.txt").write_text("[kafkaesk.apps]\n" + "".join(lines))

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a line of the shell in the folder, as its workflow does."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env={**inherited, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def make(folder: Path, name: str) -> Project:
    made = CliRunner().invoke(cli, ["new", name, "--out", str(folder / name)])
    assert made.exit_code == 0, made.output
    return Project(folder / name, name)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make(tmp_path, "corner-shop")

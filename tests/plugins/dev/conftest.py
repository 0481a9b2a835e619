"""Services, and commands that are run beside them: one that was made, and one of a few lines."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kafkaesk_core.cli import cli
from kafkaesk_testing import EmbeddedBroker

BIN = Path(sys.executable).parent


class Project:
    """A service that was made; it is as good as installed for programs that run in its folder."""

    def __init__(self, folder: Path, name: str, made: str = "") -> None:
        self.folder, self.name, self.made = folder, name, made
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
            timeout=400,
            check=False,
        )


def make(folder: Path, name: str) -> Project:
    made = CliRunner().invoke(cli, ["new", name, "--out", str(folder / name)])
    assert made.exit_code == 0, made.output
    return Project(folder / name, name, made.output.replace(f"{folder}/", ""))


SHOP = """
import kafkaesk_core
from kafkaesk_core import hookimpl
from pydantic import BaseModel

app = kafkaesk_core.Application(topic_prefix="eu.")

@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int

@app.schema("Order", version=2, streams=["orders.placed"])
class Order2(BaseModel):
    number: int
    article: str = ""

@app.schema("Plain", streams=["plain"], envelope=False)
class Plain(BaseModel):
    number: int

@app.schema("Note")
class Note(BaseModel):
    text: str

@app.subscribe("notes.*", "readers")
async def read(note: Note) -> None:
    raise SystemExit("nothing is handled")

@app.on("initialize")
async def start() -> None:
    raise SystemExit("nothing is started")

@app.hook
async def wrap_publish(message, call_next):
    message.headers.append(("by", b"the service"))
    return await call_next(message)
"""
Command = Callable[..., Result]


@pytest.fixture
def command(
    embedded_kafka: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """Run commands beside the service `shop`, whose module is imported anew, on a broker."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    monkeypatch.setenv("KAFKAESK_KAFKA_SERVERS", f"embedded://{embedded_kafka.host_port}")
    level = logging.getLogger("aiokafka").level

    def run(*arguments: str, written: bytes = b"") -> Result:
        return CliRunner().invoke(cli, list(arguments), input=written)

    yield run
    sys.modules.pop("shop", None)
    logging.getLogger("aiokafka").setLevel(level)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make(tmp_path, "corner-shop")

"""Every declared Python, and the lowest declared versions: a service starts, and the tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Any in this file: what TOML holds.

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(folder for folder in (ROOT / "plugins").iterdir() if folder.is_dir())
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
DECLARED = PYTHONS[:3]
"""The Pythons that the classifiers name; later ones are tried where they are found."""

TESTED = (
    "tests/plugins",
    "tests/schemas/test_annotations.py",
    "tests/schemas/test_schemas.py",
    "tests/consuming/test_binding.py",
    "tests/application/test_settings.py",
)
"""The plugins, and what of the core depends on Python, pydantic and pluggy."""

TEST_TOOLS = ("click>=8.2",)  # from there on its test runner tells stdout and stderr apart

SERVICE = """
import asyncio, logging
import kafkaesk_core
from pydantic import BaseModel

app = kafkaesk_core.Application("embedded://")
handled, logged = {}, asyncio.Event()

@app.schema("Note", streams=["notes"], retention=3600)
class Note(BaseModel):
    number: int

@app.subscribe("notes", "readers")
async def read(note: Note, record, subscriber: kafkaesk_core.Subscriber):
    logging.getLogger("service").warning("read %d", note.number)
    handled[note.number] = dict(record.headers)
    if note.number == 1:
        await subscriber.publish("notes", Note(number=2))

@app.subscribe("logs", "collectors")
async def collect(line):
    if line["data"]["message"] == "read 2":
        logged.set()

async def main():
    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.publish_and_wait("notes", Note(number=1), headers=[("tenant", b"blue")])
        await asyncio.wait_for(logged.wait(), 60)
        await app.stop()
        await consuming
    active = {info.name for info in app.plugins.list() if info.status == "active"}
    assert {"headers", "logging", "otel"} <= active, active
    assert handled[1]["tenant"] == handled[2]["tenant"] == b"blue", handled

asyncio.run(main())
"""


def declared(path: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((path / "pyproject.toml").read_text())["project"]
    return project


def interpreter(version: str) -> str | None:
    """A Python of this version that runs; what pyenv and others put on the PATH may not."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        sys.executable if sys.version_info[:2] == tuple(map(int, version.split("."))) else None,
        shutil.which(f"python{version}"),
        *(str(found / "bin" / "python") for found in sorted(pyenv.glob(f"{version}.*"))),
        _of_uv(version),
    ]
    program = "import sys, ssl; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        result = subprocess.run([candidate, "-c", program], capture_output=True, check=False)
        if result.stdout.decode().strip() == version:
            return candidate
    return None


def _of_uv(version: str) -> str | None:
    command = ["uv", "python", "find", "--managed-python", "--no-python-downloads", version]
    return run(command, check=False).strip() or None


def run(command: list[str], *, check: bool = True) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        # of the run that this one is part of
        if not name.startswith(("PYTEST_", "COV_", "KAFKAESK_")) and name != "VIRTUAL_ENV"
    }
    environment["KAFKAESK_LOGGING_STREAM"] = "logs"
    if "pytest" in command:
        del environment["KAFKAESK_LOGGING_STREAM"]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    if check and result.returncode:
        pytest.fail(f"{' '.join(command)}:\n{result.stdout}{result.stderr}", pytrace=False)
    return result.stdout


Environment = Callable[..., str]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    """Make an environment of a Python with what is given installed; removed after the test."""

    def make(version: str, *options: str) -> str:
        base = interpreter(version)
        if base is None:
            pytest.skip(f"Python {version} was not found on this machine: nothing ran on it")
        folder = tmp_path / "environment"
        run(["uv", "venv", "--quiet", "--python", base, str(folder)])
        python = str(folder / "bin" / "python")
        packages = [part for plugin in PLUGINS for part in ("--editable", str(plugin))]
        install(python, *options, "--editable", ".[jsonschema]", *packages)
        return python

    yield make
    shutil.rmtree(tmp_path / "environment", ignore_errors=True)


def install(python: str, *arguments: str) -> None:
    run(["uv", "pip", "install", "--quiet", "--python", python, *arguments])


def passes_the_tests(python: str, *more: str) -> None:
    """Run them without those that need Kafka, or that say something of no Python."""
    command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    told = run([*command, "-m", "not kafka and not slow", *TESTED, *more])
    assert re.search(r"^\d{3,} passed", told, re.MULTILINE), told


def test_the_declared_pythons_are_the_tested_ones() -> None:
    for path in (ROOT, *PLUGINS):
        project = declared(path)
        versions = [
            text.rpartition(" ")[2]
            for text in project["classifiers"]
            if re.search(r":: 3\.\d+$", text)
        ]

        assert project["requires-python"] == f">={PYTHONS[0]}", path
        assert tuple(versions) == DECLARED, path


@pytest.mark.parametrize("version", PYTHONS)
def test_a_service_with_all_plugins_runs_and_the_tests_pass_on(
    version: str, environment: Environment
) -> None:
    python = environment(version)

    run([python, "-W", "error", "-c", SERVICE])

    if version != f"{sys.version_info.major}.{sys.version_info.minor}":  # else they run anyway
        install(python, "--group", "dev")
        passes_the_tests(python)


def test_a_service_with_all_plugins_runs_and_the_tests_pass_on_the_lowest_declared_versions(
    environment: Environment, tmp_path: Path
) -> None:
    python = environment(PYTHONS[0], "--resolution", "lowest-direct")
    installed = run(["uv", "pip", "freeze", "--exclude-editable", "--python", python])

    run([python, "-W", "error", "-c", SERVICE])

    floors, constraints = lowest(), tmp_path / "constraints.txt"
    kept = [line for line in installed.splitlines() if line.partition("==")[0] in floors]
    assert {line.partition("==")[0] for line in kept} == floors
    constraints.write_text("\n".join(line for line in kept if not line.startswith("click")))
    install(python, "--constraints", str(constraints), *TEST_TOOLS, *of_tests())
    passes_the_tests(python, "tests/schemas/test_round_trip.py")


def lowest() -> set[str]:
    """The names of all packages whose lowest version is declared."""
    projects = [declared(path) for path in (ROOT, *PLUGINS)]
    requirements = [each for project in projects for each in project["dependencies"]]
    requirements += declared(ROOT)["optional-dependencies"]["jsonschema"]
    return {name_of(each) for each in requirements if not each.startswith("kafkaesk-")}


def of_tests() -> list[str]:
    """What the tests import, in any version: their floors are not those of a service."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    needless = {"import-linter", "matplotlib", "mypy", "ruff", "types-pyyaml"}
    found = {name_of(each): each for each in group if not each.startswith("kafkaesk-")}
    # A marker says which Pythons a package is for.
    return sorted(
        ";".join((name, *each.split(";")[1:]))
        for name, each in found.items()
        if name not in needless
    )


def name_of(requirement: str) -> str:
    (name,) = re.findall(r"^[\w-]+", requirement)
    return str(name)

"""What is shipped: wheels, installed with plain pip into fresh environments, run from elsewhere."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

CORE = """
import asyncio, kafkaesk_core
from pydantic import BaseModel

assert "site-packages" in kafkaesk_core.__file__, kafkaesk_core.__file__
app = kafkaesk_core.Application("localhost:1", start_timeout=0.5)

@app.schema("Content")
class Content(BaseModel):
    foo: str

@app.subscribe("content.*")
async def handle(data: Content) -> None: ...

try:
    asyncio.run(app.initialize())
except kafkaesk_core.BrokerUnreachableError as error:
    print(error)
    assert "localhost:1" in str(error)
else:
    raise SystemExit("started without a broker")
"""

TESTING = """
import asyncio, kafkaesk_core, kafkaesk_testing
from pydantic import BaseModel

assert "site-packages" in kafkaesk_testing.__file__, kafkaesk_testing.__file__
app = kafkaesk_core.Application("embedded://")
got = []

@app.schema("Content")
class Content(BaseModel):
    foo: str

@app.subscribe("content.*")
async def handle(data: Content) -> None:
    got.append(data.foo)

async def main():
    async with app:
        await app.publish("content.a", Content(foo="bar"))
        await app.consume_for(1, seconds=20)

asyncio.run(main())
assert got == ["bar"], got
"""

PLUGINS = """
import asyncio, importlib.util, warnings
warnings.simplefilter("error")
import kafkaesk_core, kafkaesk_headers, kafkaesk_otel
from kafkaesk_core import Subscriber
from pydantic import BaseModel

for package in (kafkaesk_headers, kafkaesk_otel):
    assert "site-packages" in package.__file__, package.__file__
assert importlib.util.find_spec("opentelemetry.sdk") is None
app = kafkaesk_core.Application("embedded://")
came = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("x", b"1")]
went = []

@app.schema("Note", streams=["out"])
class Note(BaseModel): ...

@app.subscribe("in")
async def handle(data: bytes, subscriber: Subscriber) -> None:
    await subscriber.publish("out", Note())

@app.subscribe("out")
async def collect(data: bytes, record) -> None:
    went.extend(record.headers)

async def main():
    async with app:
        await app.raw_publish("in", b"", headers=came)
        await app.consume_for(2, seconds=20)

asyncio.run(main())
assert sorted(went) == came, went
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    command = ["uv", "build", "--all-packages", "--wheel", "--out-dir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize(
    ("packages", "program", "plugins"),
    [
        (("core",), CORE, ["no plugins are installed"]),
        (("core", "testing"), TESTING, ["no plugins are installed"]),
        (("core", "testing", "headers", "otel"), PLUGINS, ["kafkaesk-headers", "kafkaesk-otel"]),
    ],
    ids=["core", "core and testing", "headers and otel, without an SDK"],
)
def test_wheels_work_alone_in_a_fresh_environment(
    wheels: Path, tmp_path: Path, packages: tuple[str, ...], program: str, plugins: list[str]
) -> None:
    python = fresh_environment(tmp_path / "environment")
    chosen = [str(next(wheels.glob(f"kafkaesk_{name}-*.whl"))) for name in packages]

    run([python, "-m", "pip", "install", "--quiet", *chosen], tmp_path)
    run([python, "-c", program], tmp_path)
    listed = run([python, "-m", "kafkaesk_core", "plugins"], tmp_path)

    assert [told for told in plugins if told not in listed] == []


def test_a_wheel_holds_its_package_and_nothing_else(wheels: Path) -> None:
    import zipfile

    for wheel in wheels.glob("*.whl"):
        package = wheel.name.partition("-")[0]
        tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
        assert {top for top in tops if not top.endswith(".dist-info")} == {package}


def fresh_environment(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    return str(folder / "bin" / "python")


def run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr

"""What is shipped: wheels, installed with plain pip into fresh environments, run from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
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

LOGGING = """
import logging, sys
import kafkaesk_logging

assert "site-packages" in kafkaesk_logging.__file__, kafkaesk_logging.__file__
assert "opentelemetry" not in sys.modules, "it is imported only where it is used"
handler = kafkaesk_logging.PydanticKafkaeskHandler("shop:app", queue_size=2, fallback=None)
logging.getLogger().addHandler(handler)
for number in range(3):
    logging.warning("line %d", number)
stats = handler.stats()
assert (stats.queue_size, dict(stats.dropped)) == (2, {"queue_full": 1}), stats
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
@app.schema("Note", streams=["out"])
class Note(BaseModel): ...

came = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("x", b"1")]
went = []

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


COMPAT = """
import warnings
import kafkaesk_compat
warnings.simplefilter("error")
try:
    from kafkaesk import Application
except DeprecationWarning as warning:
    assert "use kafkaesk_core.Application" in str(warning), warning
else:
    raise SystemExit("no warning")
"""

RETRY = """
import asyncio
import kafkaesk_core, kafkaesk_retry

assert "site-packages" in kafkaesk_retry.__file__, kafkaesk_retry.__file__
app = kafkaesk_core.Application("embedded://?topics=in,dlq.g.in")
dead = []

@app.subscribe("in", "g")
@kafkaesk_retry.retries(attempts=2, first=0)
async def fail(data: bytes) -> None:
    raise LookupError(data)

@app.subscribe("dlq.g.in", "undertaker")
async def bury(data: bytes) -> None:
    dead.append(data)

async def main():
    async with app:
        await app.raw_publish("in", b"x")
        await app.consume_for(2, seconds=20)

asyncio.run(main())
assert dead == [b"x"], dead
"""


OPS = """
import asyncio, kafkaesk_core, urllib.request
from kafkaesk_ops import Ops, OpsSettings

async def main():
    ops = Ops(OpsSettings(port=0))
    app = kafkaesk_core.Application("embedded://", plugins=[ops], entry_points=False)
    async with app:
        address = f"http://127.0.0.1:{ops.port}/metrics"
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(address).read())
        assert b"kafkaesk_up" in answer, answer

asyncio.run(main())
"""

SCHEMAS = """
import kafkaesk_core, kafkaesk_schemas
from pydantic import BaseModel
from kafkaesk_schemas.asyncapi import asyncapi_document
from kafkaesk_schemas.command import schemas
from kafkaesk_schemas.page import render_page

app = kafkaesk_core.Application()

@app.schema("Order")
class Order(BaseModel):
    number: int

assert "<style>:root" in render_page(asyncapi_document(app, "shop"))
schemas(["check", "__main__:app"], standalone_mode=False)
"""

DEV = """
import pathlib
from click.testing import CliRunner
import kafkaesk_dev
from kafkaesk_core.cli import cli

assert "site-packages" in kafkaesk_dev.__file__, kafkaesk_dev.__file__
made = CliRunner().invoke(cli, ["new", "corner-shop"])
assert made.exit_code == 0, made.output
assert pathlib.Path("corner-shop/schemas/Order-1.json").exists()
"""

CLOUDEVENTS = """
import asyncio, kafkaesk_cloudevents, kafkaesk_core
from pydantic import BaseModel

assert "site-packages" in kafkaesk_cloudevents.__file__, kafkaesk_cloudevents.__file__
app = kafkaesk_core.Application(
    plugin_settings={"cloudevents": {"streams": ["in"], "source": "/shop"}}
)
got = []

@app.schema("Order")
class Order(BaseModel):
    number: int

@app.subscribe("in", "g")
async def take(order: Order, event: kafkaesk_cloudevents.CloudEvent) -> None:
    got.append((order.number, event.type))

asyncio.run(app.handle("in", Order(number=1)))
assert got == [(1, "Order.v1")], got
"""

PACKAGES = (
    ("core", CORE, "no plugins are installed"),
    ("testing", TESTING, "no plugins are installed"),
    ("dev", DEV, "no plugins are installed"),
    ("headers", "import kafkaesk_headers", "kafkaesk_headers:HeadersPlugin"),
    ("otel", PLUGINS, "kafkaesk_otel:OTelPlugin"),
    ("logging", LOGGING, "kafkaesk_logging.plugin:LoggingPlugin"),
    ("compat", COMPAT, "kafkaesk_compat.original:RefuseOriginal"),
    ("retry", RETRY, "kafkaesk_retry.plugin:RetryPlugin"),
    ("ops", OPS, "kafkaesk_ops.plugin:Ops"),
    ("schemas", SCHEMAS, "kafkaesk_schemas.plugin:SchemasPlugin"),
    ("cloudevents", CLOUDEVENTS, "kafkaesk_cloudevents:CloudEventsPlugin"),
)
"""In the order in which they are installed: what runs, and what `kafkaesk plugins` then shows."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    command = ["uv", "build", "--all-packages", "--out-dir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def test_wheels_work_alone_in_a_fresh_environment(wheels: Path, tmp_path: Path) -> None:
    """The core by itself, then one package after the other beside it."""
    python = fresh_environment(tmp_path / "environment")

    for name, program, plugins in PACKAGES:
        wheel = str(next(wheels.glob(f"kafkaesk_{name}-*.whl")))
        run([python, "-m", "pip", "install", "--quiet", wheel], tmp_path)
        run([python, "-c", program], tmp_path)
        listed = run([python, "-m", "kafkaesk_core", "plugins"], tmp_path)
        assert plugins in listed


def test_what_is_built_is_what_is_published_and_an_index_takes_it(wheels: Path) -> None:
    built = sorted(path for path in wheels.iterdir() if path.suffix in (".whl", ".gz"))

    checked = run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built)], wheels)

    assert checked.count("PASSED") == len(built) == 2 * len(PACKAGES)
    assert {path.name.partition("-")[0] for path in built} == {f"kafkaesk_{p[0]}" for p in PACKAGES}


def test_a_description_on_an_index_has_no_link_that_leads_nowhere(wheels: Path) -> None:
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
            description = archive.read(name).decode().partition("\n\n")[2]

        assert len(description) > 500, wheel.name
        assert re.findall(r"\]\((?!https?://|#)[^)]*\)", description) == [], wheel.name


def test_the_source_distribution_of_the_core_has_its_tests_and_documents(wheels: Path) -> None:
    (sdist,) = wheels.glob("kafkaesk_core-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py"} <= names
    assert not any(name.startswith(("plugins/", "tools/", "benchmarks/")) for name in names)


def test_a_wheel_holds_its_package_and_nothing_else(wheels: Path) -> None:
    for wheel in wheels.glob("*.whl"):
        package = wheel.name.partition("-")[0]
        packages = {package, "kafkaesk"} if package == "kafkaesk_compat" else {package}
        tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
        assert {top for top in tops if not top.endswith(".dist-info")} == packages


def fresh_environment(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    return str(folder / "bin" / "python")


def run(command: list[str], folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KAFKAESK_")}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, check=False, env=environment
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr

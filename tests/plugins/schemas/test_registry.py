"""Contracts in a schema registry: at the start, and by command."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel

from kafkaesk_core import Application, PluginError
from kafkaesk_schemas import SchemasPlugin, SchemasSettings
from kafkaesk_schemas.command import schemas
from kafkaesk_schemas.contract import contract_of
from kafkaesk_schemas.registry import Registry, RegistryDownError, RegistryRefusedError
from kafkaesk_testing.properties import free_ports
from tests.plugins.schemas.double import RegistryDouble, running


class Order(BaseModel):
    number: int


class Wider(Order):
    note: str = "none"
    """Written always, so the next version requires it of no reader of the last one."""


@pytest.fixture
def registry() -> Iterator[RegistryDouble]:
    with running(RegistryDouble()) as double:
        yield double


def new_app(*models: type[BaseModel], **settings: Any) -> Application:
    plugin = SchemasPlugin(SchemasSettings(**settings))
    app = Application("embedded://", plugins=[plugin], entry_points=False)
    for version, model in enumerate(models or (Order,), 1):
        app.schema("Order", version=version)(model)
    return app


async def start(app: Application) -> None:
    async with app:
        pass


async def test_each_schema_is_registered_once_however_often_the_service_starts(
    registry: RegistryDouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kafkaesk.schemas")
    settings = {"registry_url": registry.url + "/", "registry_subject": "{name}-{version}"}
    app = new_app(Order, Wider, **settings)

    for _ in range(2):
        await start(app)

    assert {name: len(found) for name, found in registry.subjects.items()} == {
        "Order-1": 1,
        "Order-2": 1,
    }
    document = json.loads(registry.subjects["Order-1"][0])
    assert document["properties"] == {"number": {"type": "integer"}}
    assert "schema Order:1 is registered as Order-1, id 1" in caplog.text


async def test_a_name_of_a_subject_is_quoted(registry: RegistryDouble) -> None:
    app = new_app(registry_url=registry.url)
    app.schema("shop/Über order")(Wider)

    await start(app)

    assert "shop/Über order" in registry.subjects


async def test_what_the_registry_refuses_stops_the_start(registry: RegistryDouble) -> None:
    app = new_app(Order, Wider, registry_url=registry.url)

    with pytest.raises(PluginError) as stopped:
        await start(app)

    assert "refuses to register Order:2 as Order: incompatible: ['REQUIRED_PROP" in str(
        stopped.value
    )
    assert "run kafkaesk schemas check" in str(stopped.value)


@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_registry_that_is_down_stops_no_start_and_is_asked_once(
    is_gone: bool, registry: RegistryDouble, caplog: pytest.LogCaptureFixture
) -> None:
    registry.failure = 503, {"error_code": 50003, "message": "Error while forwarding"}
    url = f"http://127.0.0.1:{free_ports(1)[0]}" if is_gone else registry.url
    app = new_app(Order, Wider, registry_url=url)

    await start(app)
    registry.failure = None
    asked = len(registry.requests)

    assert caplog.text.count("and those after it are not registered") == 1
    assert ("does not answer" if is_gone else "answers 503: Error while") in caplog.text
    assert asked == (0 if is_gone else 1)
    if not is_gone:
        registry.subjects["Order"] = []
        with pytest.raises(PluginError):  # the next start asks again, and it refuses Order:2
            await start(app)
        assert registry.subjects["Order"]


async def test_a_registry_that_is_down_stops_a_start_that_needs_it() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    app = new_app(registry_url=url, registry_required=True)

    with pytest.raises(PluginError, match="does not answer"):
        await start(app)


async def test_without_an_address_no_registry_is_asked(registry: RegistryDouble) -> None:
    await start(new_app())

    assert registry.requests == []


def test_the_credentials_are_sent_and_shown_nowhere() -> None:
    expected = f"Basic {b64encode(b'me:secret').decode()}"
    (registration,) = new_app().schemas.values()
    contract = contract_of(registration)
    settings = SchemasSettings(registry_credentials="me:secret")

    with running(RegistryDouble(expected)) as double:
        right = Registry(double.url, credentials="me:secret").register(contract)
        with pytest.raises(RegistryRefusedError, match="Unauthorized; give registry_credentials"):
            Registry(double.url, credentials="me:wrong").register(contract)

    assert right == 1
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        ((404, {}), RegistryRefusedError, "404, which is no answer of Confluent's API; check reg"),
        ((200, {}), RegistryRefusedError, "200, which is no answer"),
        ((200, {"id": "1"}), RegistryRefusedError, "200, which is no answer"),
        ((403, {"message": "no"}), RegistryRefusedError, "no; let this user write the subject"),
        ((422, {"message": "bad"}), RegistryRefusedError, "bad; check registry_url and the vers"),
        ((429, {"message": "slow"}), RegistryDownError, "answers 429: slow"),
        ((500, {}), RegistryDownError, "answers 500: Internal Server Error"),
    ],
)
def test_every_answer_is_told(
    failure: Any, error: type[Exception], said: str, registry: RegistryDouble
) -> None:
    registry.failure = failure
    (registration,) = new_app().schemas.values()
    asked = Registry(registry.url)

    for ask in (asked.register, asked.problems):
        with pytest.raises(error, match=said):
            ask(contract_of(registration))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"registry_url": "localhost:8081"}, "write its address, as in https"),
        ({"registry_url": "ftp://x"}, "write its address"),
        ({"registry_url": "http://me:secret@x"}, "give it as registry_credentials"),
        ({"registry_subject": "orders"}, "so all schemas would share a subject"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SchemasSettings(**settings)


# --- the command

SHOP = """
import kafkaesk_core
from pydantic import BaseModel
app = kafkaesk_core.Application(entry_points=False)

@app.schema("Order", version=1)
class Order(BaseModel):
    number: int

@app.schema("Order", version=2)
class Wider(Order):
    note: str
"""


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Result:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "registry_shop.py").write_text(SHOP)
    return CliRunner().invoke(schemas, ["register", "registry_shop:app", *options])


def test_the_command_registers_or_asks_and_fails_on_a_refusal(
    registry: RegistryDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ("--registry-url", registry.url)

    first = run(tmp_path, monkeypatch, *address, "--dry-run")
    assert registry.subjects == {}
    registered = run(tmp_path, monkeypatch, *address)
    asked = run(tmp_path, monkeypatch, *address, "--dry-run")

    assert (first.exit_code, first.stdout.splitlines()) == (
        0,
        ["ok  Order:1 as Order: would be registered", "ok  Order:2 as Order: would be registered"],
    )
    assert registered.exit_code == asked.exit_code == 1
    assert registered.stdout.splitlines()[:2] == [
        "ok  Order:1 as Order: id 1",
        "no  Order:2 as Order",
    ]
    assert "REQUIRED_PROPERTY_ADDED: note" in asked.stdout


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "no registry is known; give --registry-url"),
        (("--registry-url", "x"), 2, "--registry-url: registry_url is 'x'; write its address"),
        (("--registry-url", "http://127.0.0.1:1"), 1, "http://127.0.0.1:1 does not answer"),
    ],
)
def test_the_command_says_what_is_wrong(
    options: Any, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(tmp_path, monkeypatch, *options)

    assert (done.exit_code, said in done.stderr) == (code, True)

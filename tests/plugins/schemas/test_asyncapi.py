"""The AsyncAPI document: what an application publishes and takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from kafkaesk_cloudevents import CloudEventsPlugin, CloudEventsSettings
from kafkaesk_core import Application
from kafkaesk_schemas.asyncapi import asyncapi_document
from kafkaesk_schemas.command import asyncapi


class Tree(BaseModel):
    children: list[Tree] = []


class Order(BaseModel):
    """An order that was placed."""

    number: int
    pair: tuple[int, str] = (1, "a")
    tree: Tree = Tree()


def new_app() -> Application:
    app = Application(topic_prefix="shop.", entry_points=False)
    app.schema("Order", streams=["orders.placed"], retention=3600, partitions=4)(Order)
    app.schema("Plain", streams=["plain"], envelope=False)(Tree)
    app.publishes("orders.copied", "Order:1")

    @app.subscribe("orders.*", "billing")
    async def bill(order: Order) -> None:
        """Write an invoice."""

    return app


def test_the_document_has_what_is_sent_and_received_with_kafkas_bindings() -> None:
    document = asyncapi_document(new_app(), "Shop")

    assert document["asyncapi"] == "3.0.0"
    channel = document["channels"]["orders.placed"]
    assert channel["address"] == "shop.orders.placed"
    assert channel["bindings"]["kafka"]["partitions"] == 4
    assert channel["bindings"]["kafka"]["topicConfiguration"] == {"retention.ms": 3_600_000}
    assert {name: each["action"] for name, each in document["operations"].items()} == {
        "send.orders.placed": "send",
        "send.orders.copied": "send",
        "send.plain": "send",
        "receive.orders.placed.billing": "receive",
        "receive.orders.copied.billing": "receive",
    }
    receive = document["operations"]["receive.orders.placed.billing"]
    assert receive["summary"] == "Write an invoice."
    assert receive["bindings"]["kafka"]["groupId"]["enum"] == ["billing"]


def test_the_payload_is_what_is_on_the_wire() -> None:
    messages = asyncapi_document(new_app(), "Shop")["components"]["messages"]

    envelope = messages["Order_1"]["payload"]
    assert envelope["properties"]["schema"]["const"] == "Order:1"
    assert envelope["properties"]["data"]["required"] == ["number", "pair", "tree"]
    assert messages["Order_1"]["examples"][0]["payload"]["schema"] == "Order:1"
    assert "schema" not in messages["Plain_1"]["payload"].get("properties", {})


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for each in node.values() for ref in references(each)]
    return [ref for each in node for ref in references(each)] if isinstance(node, list) else []


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi_document(new_app(), "Shop")

    found = references(document)

    assert any("components/schemas/Order_1.R1" in ref for ref in found)
    for ref in found:
        target: Any = document
        for step in ref.removeprefix("#/").split("/"):
            target = target[step]


def test_the_command_writes_yaml_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "asyncapi_shop.py").write_text(
        "import kafkaesk_core\napp = kafkaesk_core.Application(entry_points=False)\n"
    )

    as_yaml = CliRunner().invoke(asyncapi, ["asyncapi_shop:app", "--title", "Shop"])
    as_json = CliRunner().invoke(asyncapi, ["asyncapi_shop:app", "--title", "Shop", *JSON])

    assert as_yaml.exit_code == as_json.exit_code == 0
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)


JSON = ["--format", "json"]
PARSER = os.environ.get("ASYNCAPI_PARSER", "")
"""A folder in which `npm install @asyncapi/parser` was called, as `.ci/run` does where Node is."""
NEEDS_PARSER = pytest.mark.skipif(
    not (PARSER and shutil.which("node")),
    reason="needs Node, and @asyncapi/parser from npm in the folder ASYNCAPI_PARSER",
)
VALIDATE = """
const { Parser, fromFile } = require("@asyncapi/parser");
const fs = require("fs");
new Parser().parse(fs.readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  console.log(JSON.stringify(diagnostics.map((each) => [each.severity, each.code, each.message])));
  process.exit(document ? 0 : 1);
});
"""


@NEEDS_PARSER
@pytest.mark.parametrize(("version", "told"), [("3.0", ["asyncapi-latest-version"]), ("3.1", [])])
def test_the_official_parser_tells_at_most_that_there_is_a_newer_version(
    version: str, told: list[str]
) -> None:
    app = new_app()
    settings = CloudEventsSettings(streams=("orders.copied",), source="/shop")
    app.plugins.register(CloudEventsPlugin(settings))
    document = json.dumps(asyncapi_document(app, "Shop", asyncapi=version))

    done = subprocess.run(
        ["node", "-e", VALIDATE],
        cwd=PARSER,
        input=document,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Order_1.CloudEvents" in document
    assert [code for _, code, _ in json.loads(done.stdout)] == told

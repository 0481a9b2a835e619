"""The page of the AsyncAPI document: whole without a network, readable in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel, Field

from kafkaesk_core import Application, hookimpl
from kafkaesk_schemas.asyncapi import asyncapi_document
from kafkaesk_schemas.command import asyncapi
from kafkaesk_schemas.page import render_page
from tests.plugins.schemas.test_asyncapi import new_app

EVIL = "</script><script>alert(1)</script> & <b>"


class Line(BaseModel):
    article: str = Field(description=f"The article {EVIL}.")


class Parcel(BaseModel):
    __doc__ = f"A parcel {EVIL}."

    lines: list[Line]
    size: int | Line = 1
    weights: dict[str, Line] = {}
    note: str = Field("none", max_length=80)


def page_of(app: Application, **options: Any) -> str:
    return render_page(asyncapi_document(app, f"Shop {EVIL}", **options))


def parcels() -> Application:
    app = new_app()
    app.schema("Parcel", streams=["parcels"], retention=90)(Parcel)
    return app


class Links(HTMLParser):
    """What a page leads to, what can be led to, and the text that is seen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.to: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.scripts = 0
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given["id"] or ""} if "id" in given else set()
        self.scripts += tag == "script"
        if tag == "a":
            self.to.append(given["href"] or "")
        else:
            self.loaded += [given[name] or "" for name in ("href", "src") if name in given]

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_the_page_asks_no_host_for_anything() -> None:
    page = page_of(parcels())

    links = Links(page)

    assert links.loaded == ["data:,"]
    assert "default-src 'none'" in page
    assert re.findall(r"@import|url\(|fetch\(|import\(", page) == []


def test_every_stream_message_and_type_is_reached_from_the_contents() -> None:
    document = asyncapi_document(parcels(), "Shop")

    links = Links(render_page(document))

    components = document["components"]
    for kind, names in (
        ("stream", document["channels"]),
        ("message", components["messages"]),
        ("type", components["schemas"]),
    ):
        assert names
        assert {f"{kind}-{name}" for name in names} <= links.anchors
        assert {f"#{kind}-{name}" for name in names} <= set(links.to)
    assert {to.removeprefix("#") for to in links.to} <= links.anchors


def test_the_page_says_what_is_sent_and_received_and_what_it_holds() -> None:
    text = " ".join(Links(page_of(parcels())).text.split())

    assert "sent Order:1" in text
    assert "received Order:1 by group billing ," in text
    assert "Write an invoice." in text
    assert "1 hour (3600000)" in text
    assert "data.lines[].article string always" in text
    assert "data.size(2).article" in text
    assert "data.weights.*.article" in text
    assert "string (maxLength 80)" in text


def test_texts_of_the_service_are_text() -> None:
    links = Links(page_of(parcels()))

    assert links.scripts == 1
    assert f"A parcel {EVIL}." in links.text
    assert f"The article {EVIL}." in links.text


def test_a_service_without_streams_has_a_page_too() -> None:
    assert "names no stream" in page_of(Application(entry_points=False))


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "page_shop.py").write_text(
        "import kafkaesk_core\napp = kafkaesk_core.Application(entry_points=False)\n"
    )

    made = CliRunner().invoke(asyncapi, ["page_shop:app", "--format=html", "--asyncapi=3.1"])

    assert made.exit_code == 0
    assert made.stdout.startswith("<!doctype html>")
    assert "AsyncAPI 3.1.0" in made.stdout


# --- forms of codecs


class Form:
    """A codec that says how it writes, for one stream."""

    form = "Lines"

    @hookimpl
    def codec(self, stream: str, schema: Any) -> Any:
        return self if stream == "orders.copied" else None

    def encode(self, message: Any, schema: Any, content: bytes) -> bytes:
        return content

    def decode(self, message: Any, schema: Any) -> tuple[str, bytes]:
        return "Order:1", message.value

    def describe(self, schema: Any) -> Any:
        return {"headers": {"type": "object", "properties": {"kind": {"const": schema.key}}}}


class Silent:
    """A codec that does not say how it writes."""

    codec = Form.codec
    encode = Form.encode
    decode = Form.decode


@pytest.mark.parametrize(("codec", "name"), [(Form(), "Lines"), (Silent(), "Silent")])
def test_a_message_has_the_form_that_a_codec_gives_it(codec: Any, name: str) -> None:
    app = new_app()
    app.plugins.register(codec)

    document = asyncapi_document(app, "Shop")

    messages = document["components"]["messages"]
    assert document["channels"]["orders.placed"]["messages"].keys() == {"Order_1"}
    assert document["channels"]["orders.copied"]["messages"].keys() == {f"Order_1.{name}"}
    assert "schema" in messages["Order_1"]["payload"]["properties"]
    if name == "Lines":
        form = messages["Order_1.Lines"]
        assert form["payload"]["properties"].keys() == {"number", "pair", "tree"}
        assert form["headers"]["properties"]["kind"]["const"] == "Order:1"
        assert '"Order:1"' in Links(render_page(document)).text
    else:
        assert messages["Order_1.Silent"]["payload"] is True
        assert "does not say how" in Links(render_page(document)).text


def test_streams_of_plugins_are_not_the_services() -> None:
    class Owner:
        claimed_streams = frozenset({"private.*"})

        @hookimpl
        def declare(self, router: Any) -> None: ...

    app = new_app()
    app.plugins.register(Owner())

    @app.subscribe("private.1", "billing")
    async def take(data: bytes) -> None: ...

    assert "private.1" not in asyncapi_document(app, "Shop")["channels"]


# --- in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SEARCH = """
<script>
const shown = () => [...document.querySelectorAll("article")].filter((each) => !each.hidden);
const look = (text) => {
  search.value = text;
  search.dispatchEvent(new Event("input"));
  return shown().map((each) => each.id).join(",");
};
const found = [look("billing copied"), look("no such words"), look("")];
found.splice(2, 1, document.getElementById("nothing").hidden);
found.push(document.documentElement.scrollWidth > innerWidth);
found.push(matchMedia("(prefers-color-scheme: dark)").matches);
document.title = JSON.stringify(found);
</script>
"""


@pytest.mark.skipif(not CHROMIUM, reason="needs the package chromium of Debian")
@pytest.mark.parametrize(("size", "theme"), [("1280,900", 1), ("390,800", 0)])
def test_a_browser_without_a_network_shows_and_searches_it(
    size: str, theme: int, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(page_of(parcels()).replace("</body>", SEARCH + "</body>"))
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"),
        *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"),
        *(f"--window-size={size}", f"--blink-settings=preferredColorScheme={theme}"),
    ]

    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, check=False, timeout=60
    )

    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
    is_dark = "true" if theme == 0 else "false"
    (title,) = re.findall("<title>(.*?)</title>", done.stdout)
    assert title == f'["stream-orders.copied","",true,false,{is_dark}]'

"""Contracts: how they are described and frozen, and what a check of an application says."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    AnyUrl,
    BaseModel,
    Field,
    computed_field,
    create_model,
    field_validator,
)

from kafkaesk_core import Application, ConfigurationError, Router
from kafkaesk_schemas import SchemasPlugin, upcast
from kafkaesk_schemas.command import schemas as command
from kafkaesk_schemas.contract import contract_of, read_contract
from kafkaesk_schemas.frozen import read_frozen
from kafkaesk_schemas.review import Finding, Review
from kafkaesk_schemas.upcasting import chains_to, upcasters_of

FROZEN = Path(__file__).parent / "Everything-1.json"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"


class Tree(BaseModel):
    children: list[Tree] = []


class Usual(BaseModel):
    number: int
    article: str
    at: datetime
    price: Decimal
    note: str | None = None
    payment: Card | Cash
    tags: list[str] = []


class Everything(BaseModel):
    """One field of each kind that pydantic's versions have described in different ways."""

    number: int = Field(description="The order's number.")
    price: Annotated[Decimal, Field(ge=0, max_digits=8)] = Decimal(1)
    at: datetime
    id: UUID | None = None
    link: AnyUrl
    anything: Any = None
    notes: dict[str, Any] = {}
    counts: dict[Colour, int] = {}
    bare: dict = {}  # type: ignore[type-arg]  # as many write it
    colours: set[Colour] = set()
    pair: tuple[int, str] = (1, "a")
    payment: Annotated[Card | Cash, Field(discriminator="kind")]
    tree: Tree = Tree()
    renamed: int = Field(1, validation_alias=AliasChoices("renamed", "old_name"))
    hidden: int = Field(1, exclude=True)

    @computed_field  # type: ignore[prop-decorator]  # as pydantic shows it
    @property
    def double(self) -> int:
        return self.number * 2


def make_app(**models: Any) -> Application:
    """An application with Order in the versions v1, v2, ..., and the plugin."""
    app = Application(plugins=[SchemasPlugin()], entry_points=False)
    for name, model in models.items():
        app.schema("Order", version=int(name[1:]))(model)
    return app


def order(**fields: Any) -> Any:
    full: Any = {name: (kind, ...) for name, kind in fields.items()}
    return create_model("Order", **full)


def check(app: Application, frozen: Any = None) -> list[Finding]:
    upcasters = upcasters_of(app)
    return list(Review(app, frozen or {}, chains=partial(chains_to, upcasters)).findings())


def frozen_of(app: Application) -> dict[str, Any]:
    """The contracts of an application, as they are read from their files."""
    found = (contract_of(each) for each in app.schemas.values())
    return {each.key: read_contract(each.to_text(), each.key) for each in found}


# --- the frozen file


def test_every_version_of_pydantic_writes_the_same_file() -> None:
    app = make_app()
    app.schema("Everything")(Everything)

    text = contract_of(app.schemas["Everything:1"]).to_text()

    assert text == FROZEN.read_text()


def test_the_name_of_a_class_that_is_not_on_the_wire_is_no_part_of_the_contract() -> None:
    class Line(BaseModel):
        article: str

    class Item(BaseModel):
        article: str

    one, other = make_app(v1=order(lines=list[Line])), make_app(v1=order(lines=list[Item]))

    assert frozen_of(one)["Order:1"].is_same(frozen_of(other)["Order:1"])


def test_a_frozen_version_that_is_changed_is_refused_with_the_remedy() -> None:
    frozen = frozen_of(make_app(v1=order(number=int)))

    (changed,) = check(make_app(v1=order(number=int, customer=int)), frozen)

    assert changed.answer == "changed"
    assert [(each.path, each.reason) for each in changed.details] == [
        ("customer", "it reads something else than was frozen"),
        ("customer", "it writes something else than was frozen"),
    ]
    assert changed.remedy == "undo the change, or register it as Order:2 and keep Order:1"


def test_the_words_of_a_frozen_version_may_change() -> None:
    class First(BaseModel):
        number: int = Field(description="a number", examples=[1])

    class Second(BaseModel):
        """An order."""

        number: int = Field(description="the order's number", examples=[7], deprecated=True)

    (same,) = check(make_app(v1=Second), frozen_of(make_app(v1=First)))

    assert same.answer == "same"


def test_a_validator_that_refuses_what_a_frozen_version_read_is_found() -> None:
    class Careful(BaseModel):
        article: str

        @field_validator("article")
        @classmethod
        def is_upper(cls, value: str) -> str:
            if not value.isupper():
                raise ValueError("articles are in capitals")
            return value

    (found,) = check(make_app(v1=Careful), frozen_of(make_app(v1=order(article=str))))

    assert found.answer == "unreadable"
    assert found.details[0].message == {"article": "text"}
    assert "articles are in capitals" in found.details[0].error


def test_an_old_version_that_the_service_no_longer_has_is_still_compared() -> None:
    frozen = frozen_of(make_app(v1=order(number=int)))

    (found,) = check(make_app(v2=order(number=int, customer=int)), frozen)

    assert (found.writer, found.reader, found.answer) == ("Order:1", "Order:2", "incompatible")


# --- modes


@pytest.mark.parametrize(
    ("mode", "pairs"),
    [
        ("none", []),
        ("backward", [("Order:2", "Order:3")]),
        ("forward", [("Order:3", "Order:2")]),
        ("full", [("Order:2", "Order:3"), ("Order:3", "Order:2")]),
        ("backward_transitive", [("Order:2", "Order:3"), ("Order:1", "Order:3")]),
        ("forward_transitive", [("Order:3", "Order:2"), ("Order:3", "Order:1")]),
    ],
)
def test_a_mode_says_who_is_compared_with_whom(mode: str, pairs: list[Any]) -> None:
    app = make_app(v1=order(a=int), v2=order(a=int))
    app.schema("Order", version=3, options={"schemas": mode})(order(a=int))

    found = [each for each in check(app) if each.schema == "Order:3"]

    assert [(each.writer, each.reader) for each in found] == pairs


@pytest.mark.parametrize("mode", ["backwards", 1, None])
async def test_a_mode_that_there_is_none_of_is_refused(mode: object) -> None:
    app = make_app()
    app.configure("embedded://")
    app.schema("Order", options={"schemas": mode})(order(a=int))

    with pytest.raises(ConfigurationError, match="use one of backward, forward, full"):
        check(app)
    with pytest.raises(Exception, match="schema Order:1 has the option 'schemas'"):
        await app.initialize()


# --- what is not known, and what is read through an upcaster


def test_a_serializer_of_its_own_is_not_known_and_not_called_incompatible() -> None:
    document = {"type": "object", "properties": {"a": {"if": {}, "then": False}}}

    found = check(make_app(v1=document, v2=document))

    assert [each.answer for each in found] == ["unknown"]
    assert "'if', 'then'" in found[0].details[0].reason


def test_an_upcaster_makes_a_version_readable() -> None:
    app = make_app(v1=order(number=int), v2=order(number=int, customer=int))
    router = Router()
    app.mount(router)
    upcast(router, "Order", 1)(lambda data: {**data, "customer": 0})

    (found,) = check(app)

    assert (found.answer, found.reader) == ("compatible", "Order:2")
    assert "read through" in found.note


@pytest.mark.parametrize(
    ("convert", "said"),
    [
        (lambda data: data, "customer: Field required"),
        (lambda data: data["x"], "the upcaster failed: KeyError"),
    ],
)
def test_an_upcaster_that_does_not_help_is_named(convert: Any, said: str) -> None:
    app = make_app(v1=order(number=int), v2=order(number=int, customer=int))
    upcast(app, "Order", 1)(convert)

    (found,) = check(app)

    assert found.answer == "incompatible"
    assert said in found.details[0].error
    assert found.remedy == "correct the upcaster of Order:1, or what Order:2 requires"


# --- the commands

SHOP = """
import kafkaesk_core
from pydantic import BaseModel

app = kafkaesk_core.Application(entry_points=False)


@app.schema("Order", version=1, streams=["orders.placed"])
class OrderV1(BaseModel):
    number: int


@app.schema("Order", version=2, streams=["orders.placed"])
class Order(BaseModel):
    number: int
    article: str{default}


@app.subscribe("orders.placed", "billing")
async def bill(order: Order) -> None: ...
"""

Run = Callable[..., Any]


@pytest.fixture
def kafkaesk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `kafkaesk schemas` in a folder with shop_bad.py and shop_good.py."""
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}_bad.py").write_text(SHOP.format(default=""))
    (tmp_path / f"{name}_good.py").write_text(SHOP.format(default=' = "tea"'))

    def run(*arguments: str) -> Any:
        words = [
            {"bad": f"{name}_bad:app", "good": f"{name}_good:app"}.get(w, w) for w in arguments
        ]
        return CliRunner().invoke(command, words)

    return run


def test_check_says_who_cannot_read_what_and_fails(kafkaesk: Run) -> None:
    bad, good = kafkaesk("check", "bad"), kafkaesk("check", "good")

    assert bad.exit_code == 2
    assert bad.stdout.splitlines()[:4] == [
        "no  Order:2 cannot read what Order:1 writes (backward)",
        "      article: it is required, and not written",
        '        {"number": 7}',
        "        article: Field required",
    ]
    assert "_bad.bill of orders.placed" in bad.stdout
    assert "remedy: give what is missing a default, upcast(app, 'Order', 1)" in bad.stdout
    assert (good.exit_code, good.stdout) == (
        0,
        "ok  Order:2 reads what Order:1 writes (backward)\n1 schema, nothing is refused\n",
    )


def test_check_is_read_by_machines_and_by_github(kafkaesk: Run) -> None:
    as_json = kafkaesk("check", "bad", "--format", "json")
    as_github = kafkaesk("check", "bad", "--format", "github")

    (finding,) = json.loads(as_json.stdout)
    assert (finding["answer"], finding["refused"]) == ("incompatible", True)
    assert finding["details"][0]["message"] == {"number": 7}
    assert as_github.exit_code == as_json.exit_code == 2
    first = as_github.stdout.splitlines()[0]
    assert first.startswith("::error file=shop_")
    assert ",line=14,title=Order%3A2::Order:2 cannot read what Order:1 writes" in first
    assert "%0Aarticle: it is required" in first


def test_freeze_writes_each_version_once_and_never_changes_one(
    kafkaesk: Run, tmp_path: Path
) -> None:
    first, again = kafkaesk("freeze", "good"), kafkaesk("freeze", "good")
    other = kafkaesk("freeze", "bad")

    assert first.stdout == "wrote schemas/Order-1.json\nwrote schemas/Order-2.json\n"
    assert again.stdout == "2 schemas are frozen already\n"
    assert other.exit_code == 2
    assert "no  Order:2 is not as it was frozen" in other.stdout
    assert '"default": "tea"' in (tmp_path / "schemas/Order-2.json").read_text()
    assert kafkaesk("check", "good").exit_code == 0


def test_check_against_a_revision_of_git(kafkaesk: Run, tmp_path: Path) -> None:
    kafkaesk("freeze", "good")
    git("init", "-q")
    git("add", "schemas")
    git("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "freeze")
    for path in (tmp_path / "schemas").iterdir():
        path.unlink()

    found = kafkaesk("check", "bad", "--against", "git:HEAD")
    unknown = kafkaesk("check", "bad", "--against", "git:nowhere")
    missing = kafkaesk("check", "bad", "--against", "nowhere")

    assert "no  Order:2 is not as it was frozen" in found.stdout
    assert unknown.exit_code == missing.exit_code == 2
    assert "git does not show 'nowhere' here" in unknown.stderr
    assert "there is no such folder" in missing.stderr


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "Order", "written": 1, "read": 2}'])
def test_a_file_that_is_no_frozen_schema_is_named(text: str, kafkaesk: Run, tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/Order-1.json").write_text(text)

    found = kafkaesk("check", "good")

    assert found.exit_code == 2
    assert "schemas/Order-1.json is not a frozen schema" in found.stderr


def test_show_and_diff_say_what_a_version_is_and_what_is_new(kafkaesk: Run) -> None:
    shown, diff = kafkaesk("show", "good", "Order:2"), kafkaesk("diff", "bad", "Order:1", "Order:2")

    assert shown.stdout.splitlines() == [
        "Order:2",
        "  number: integer, required",
        "  article: string, optional",
    ]
    assert diff.stdout.splitlines() == [
        "+ article: string, required",
        "Order:2 cannot read what Order:1 writes",
        "  article: it is required, and not written",
        "Order:1 reads what Order:2 writes",
    ]
    assert (
        "no schema 'Order:9' is registered or frozen" in kafkaesk("show", "good", "Order:9").stderr
    )


def test_export_writes_what_other_languages_read(kafkaesk: Run, tmp_path: Path) -> None:
    import jsonschema_rs

    kafkaesk("export", "good", "--out", "out")

    document = json.loads((tmp_path / "out/Order-2.schema.json").read_text())
    assert document["$id"] == "urn:kafkaesk:Order:2"
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    validator = jsonschema_rs.validator_for(document)
    assert validator.is_valid({"number": 1, "article": "tea"})
    assert not validator.is_valid({"number": 1})


def test_a_hundred_schemas_are_checked_within_a_second_of_work() -> None:
    app = Application(entry_points=False)
    for number in range(50):
        for version in (1, 2):
            app.schema(f"Order{number}", version=version)(Usual)

    before = time.process_time()
    found = list(Review(app, {}).findings())

    assert {each.answer for each in found} == {"compatible"}
    assert time.process_time() - before < 1


def test_frozen_schemas_of_names_that_files_cannot_have(tmp_path: Path) -> None:
    from kafkaesk_schemas.frozen import write_frozen

    app = Application(entry_points=False)
    app.schema("shop/Order ü%")(order(number=int))

    contracts = frozen_of(app)
    write_frozen(contracts, tmp_path)

    assert read_frozen(str(tmp_path)).keys() == {"shop/Order ü%:1"}

"""`app.describe()` and `app.publishes()`: what an application is made of, as plain data."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    ConfigurationError,
    Router,
    SchemaConflictError,
    Skip,
    UnknownSchemaError,
    hookimpl,
)


class Order(BaseModel):
    """An order of a customer."""

    number: int


class Refund(BaseModel):
    amount: int


class Opaque(BaseModel, arbitrary_types_allowed=True):
    anything: object


@dataclass
class Policy:
    pause: timedelta
    errors: tuple[type[Exception], ...]
    worst: float = float("inf")


class Policies:
    claimed_options = frozenset({"policy"})
    claimed_streams = frozenset({"policies.*"})

    @hookimpl
    def declare(self, router: Router, app: Application) -> None:
        app.describe()  # what is there by now; it does not call `declare` again
        router.subscribe("policies.now", "policies")(_take)


async def _take(data: bytes) -> None: ...


def skip(error: BaseException, message: object) -> Skip:
    return Skip("it does not matter")


def new_app(*plugins: object, **options: Any) -> Application:
    return Application("no.broker:1", plugins=plugins, entry_points=False, **options)


def shop() -> Application:
    app = new_app(Policies(), topic_prefix="shop.")
    app.schema("Order", version=1, streams=["orders.kept"], retention=60)(Order)
    app.schema("Order", version=2)(Order)
    app.schema("Refund")(Refund)
    policy = Policy(timedelta(seconds=3), (ValueError,))

    @app.subscribe("orders.*", "billing", on_error=skip, options={"policy": policy}, concurrency=3)
    async def bill(order: Order) -> None:
        """Bill an order.

        Only once.
        """

    @app.subscribe("refunds", "archive", batch_size=7, max_uncommitted=50)
    async def store(refunds: list[Refund | Order]) -> None: ...

    app.subscribe_to_topics(["raw", "policies.old"], "raw")(functools.partial(_with, 1))
    app.publishes("orders.placed", Order)
    app.publishes("refunds", "Refund:1")
    return app


async def _with(number: int, envelope, /) -> None:  # type: ignore[no-untyped-def]
    """Take anything."""


def test_a_description_has_every_stream_that_the_application_names() -> None:
    described = shop().describe()

    assert described["topic_prefix"] == "shop."
    found = {each.pop("stream"): tuple(each.values()) for each in map(dict, described["streams"])}
    assert found == {
        "orders.kept": ("shop.orders.kept", ["Order:1"], [], ["billing"]),
        "orders.placed": ("shop.orders.placed", ["Order:2"], ["Order:2"], ["billing"]),
        "refunds": ("shop.refunds", ["Refund:1"], ["Refund:1"], ["archive"]),
        "raw": ("shop.raw", [], [], ["raw"]),
        "policies.old": ("shop.policies.old", [], [], ["raw"]),
        "policies.now": ("shop.policies.now", [], [], ["policies"]),
    }


def test_a_description_has_every_handler_with_what_it_takes() -> None:
    bill, store, raw, policies = shop().describe()["handlers"]

    assert bill == {
        "handler": f"{__name__}.shop.<locals>.bill",
        "summary": "Bill an order.",
        "group": "billing",
        "streams": ["orders.*"],
        "is_pattern": True,
        "takes": f"{__name__}.Order",
        "schemas": ["Order:1", "Order:2"],
        "is_batch": False,
        "ordering": "partition",
        "on_error": f"{__name__}.skip",
        "settings": {"concurrency": 3},
        "skip_plugins": [],
        "options": {"policy": {"pause": "PT3S", "errors": ["ValueError"], "worst": "Infinity"}},
    }
    assert store["is_batch"]
    assert store["schemas"] == ["Refund:1", "Order:1", "Order:2"]
    assert store["settings"] == {"batch_size": 7, "batch_timeout": 0.1, "max_uncommitted": 50}
    assert (raw["takes"], raw["summary"], raw["is_pattern"]) == (
        "envelope",
        "Take anything.",
        False,
    )
    assert (policies["takes"], policies["on_error"]) == ("bytes", "stop")


def test_a_description_has_every_schema_with_its_document() -> None:
    app = shop()
    app.schema("Opaque")(Opaque)
    app.schema("Stock")({"type": "object", "description": "What is left."})

    order, _, _, opaque, stock = app.describe()["schemas"]

    assert order["schema"] == "Order:1"
    assert order["summary"] == "An order of a customer."
    assert (order["streams"], order["retention"]) == (["orders.kept"], 60)
    assert order["document"] == Order.model_json_schema()
    assert stock["document"] == {"type": "object", "description": "What is left."}
    assert stock["summary"] == "What is left."
    assert opaque["declared_in"] == f"{__name__}.Opaque"


def test_a_description_is_json_and_is_the_same_each_time() -> None:
    app = shop()

    first, second = app.describe(), app.describe()

    assert first == second == json.loads(json.dumps(first, allow_nan=False))
    assert [each["name"] for each in first["plugins"]] == ["policies"]


def test_a_description_holds_no_settings_since_they_may_be_secret() -> None:
    app = new_app(kafka_settings={"sasl_plain_password": "hunter2"})

    assert "hunter2" not in json.dumps(app.describe())


def test_what_a_mounted_router_publishes_is_published_by_the_application() -> None:
    app, router = new_app(), Router()
    app.mount(router)
    router.publishes("orders", Order)
    router.schema(Order)

    (stream,) = app.describe()["streams"]

    assert stream["published"] == ["Order:1"]


@pytest.mark.parametrize("schema", [Order, "Order:1"])
async def test_a_schema_that_is_published_must_be_registered_at_the_start(schema: Any) -> None:
    app = new_app()
    app.publishes("orders", schema)
    problem = (
        r"publishes\('orders', .*Order.*\): this schema is not registered \(registered: none\)"
    )

    with pytest.raises(UnknownSchemaError, match=problem):
        app.describe()
    with pytest.raises(UnknownSchemaError, match=problem):
        await app.initialize()


def test_a_stream_is_said_to_carry_one_schema() -> None:
    for streams in ([], ["money"]):
        app = new_app()
        app.schema("Order", streams=streams)(Order)
        app.schema("Refund")(Refund)
        app.publishes("money", Refund if streams else Order)
        app.publishes("money", Refund)

        with pytest.raises(SchemaConflictError, match=r"carries schema Order:1.*Refund:1"):
            app.describe()


async def test_a_stream_carries_what_it_was_said_to_publish() -> None:
    app = new_app()
    app.configure("embedded://")
    app.schema("Order")(Order)
    app.schema("Refund")(Refund)
    app.publishes("orders", Order)

    async with app:
        with pytest.raises(SchemaConflictError, match="carries schema 'Order'"):
            await app.publish("orders", Refund(amount=1))
        await app.publish_and_wait("orders", {"number": 1})  # its schema is known


@pytest.mark.parametrize(
    ("stream", "schema"),
    [("orders", Policy), ("orders", Order(number=1)), ("a/b", Order), (1, Order)],
)
def test_what_cannot_be_published_is_refused_where_it_is_declared(stream: Any, schema: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"publishes\(.*(give a pydantic|cannot be a topic)"
    ):
        new_app().publishes(stream, schema)

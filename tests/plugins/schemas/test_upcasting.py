"""Upcasters: records of older versions reach handlers of the newest one."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    ConfigurationError,
    IncomingMessage,
    Router,
    SchemaRegistration,
)
from kafkaesk_core.schema.decoding import reader_of
from kafkaesk_core.schema.registry import Schemas
from kafkaesk_schemas import SchemasPlugin, upcast
from kafkaesk_testing import check_plugin
from kafkaesk_testing.fakes import incoming_message


def test_the_plugin_conforms() -> None:
    check_plugin(SchemasPlugin())


class OrderV1(BaseModel):
    number: int


class OrderV2(BaseModel):
    number: int
    article: str


class Order(BaseModel):
    number: int
    articles: list[str]


def new_app(servers: str | None = None) -> Application:
    """Order in three versions, with the upcasters of the first two, one of them on a router."""
    app = Application(servers, plugins=[SchemasPlugin()], entry_points=False)
    models: list[type[BaseModel]] = [OrderV1, OrderV2, Order]
    for version, model in enumerate(models, 1):
        app.schema("Order", version=version, streams=["orders"])(model)
    router = Router()
    app.mount(router)

    @upcast(router, "Order", 1)
    def add_article(data: dict[str, Any]) -> dict[str, Any]:
        if data["number"] == 13:
            raise ValueError("unlucky")
        return {**data, "article": "tea"}

    @upcast(app, "Order", 2)
    def list_articles(data: dict[str, Any]) -> dict[str, Any]:
        return {"number": data["number"], "articles": [data["article"]]}

    return app


MIXED = (
    OrderV1(number=1),
    OrderV2(number=2, article="coffee"),
    Order(number=3, articles=[]),
    OrderV1(number=4),
)
READ = [
    Order(number=1, articles=["tea"]),
    Order(number=2, articles=["coffee"]),
    Order(number=3, articles=[]),
    Order(number=4, articles=["tea"]),
]


async def test_three_versions_in_one_partition_reach_handlers_of_the_newest_one() -> None:
    app = new_app("embedded://")
    one_by_one: list[Any] = []
    batches: list[Order] = []

    @app.subscribe("orders", "one")
    async def read(order: Order, schema: str) -> None:
        one_by_one.append((schema, order))

    @app.subscribe("orders", "several", batch_size=3, batch_timeout=0.01)
    async def read_batch(orders: list[Order]) -> None:
        batches.extend(orders)

    async with app:
        consuming = asyncio.create_task(app.consume_for(2 * len(MIXED), seconds=20))
        for order in MIXED:
            await app.publish_and_wait("orders", order, key=b"k")
        await consuming

    assert [order for _, order in one_by_one] == batches == READ
    assert [schema for schema, _ in one_by_one] == ["Order:1", "Order:2", "Order:3", "Order:1"]


def test_a_record_that_needs_no_upcaster_costs_at_most_one_call_more() -> None:
    plugin, app = SchemasPlugin(), new_app()
    app.subscribe("orders", "one")(take)
    plugin.declare(Router(), app)
    idle = SchemasPlugin()
    idle.declare(Router(), Application(entry_points=False))
    schemas, subscription = Schemas(), app.subscriptions[0]
    schemas.register(SchemaRegistration("Order", 3, Order))

    def decoder(*plugins: SchemasPlugin) -> Any:
        return schemas.decoder(
            Order,
            upcasts=lambda schema: {
                key: function
                for each in plugins
                for key, function in each.upcasters(schema, subscription).items()
            },
        )

    current = incoming_message(b'{"schema":"Order:3","data":{"number":1,"articles":[]}}')
    old = incoming_message(b'{"schema":"Order:1","data":{"number":1}}')
    bare = calls_of(decoder(), current)

    assert reader_of(decoder(idle)) is not None  # the engine reads it without a message
    assert calls_of(decoder(idle), current) == bare
    assert calls_of(decoder(plugin), current) == bare + 1
    assert calls_of(decoder(plugin), old) > bare + 1


async def take(data: bytes) -> None: ...


def calls_of(decode: Any, message: IncomingMessage) -> int:
    """How many Python functions a second decoding calls."""
    decode(message)
    calls: Counter[str] = Counter()
    sys.setprofile(lambda _, event, __: calls.update((event,)))
    try:
        decode(message)
    finally:
        sys.setprofile(None)
    return calls["call"]


async def test_a_failing_upcaster_is_the_failure_of_its_record_alone() -> None:
    app = new_app()
    got: list[Order] = []

    @app.subscribe("orders", "one")
    async def read(order: Order) -> None:
        got.append(order)

    failed = await app.handle("orders", OrderV1(number=13))
    done = await app.handle("orders", OrderV1(number=1))

    assert failed.kind == "stop"
    assert "orders[0]@0 has schema Order:1, and its upcaster failed: ValueError" in str(
        failed.error
    )
    assert (done.kind, got) == ("done", READ[:1])


async def test_a_handler_of_an_older_version_gets_what_it_asks_for() -> None:
    app = new_app()
    got: list[Any] = []

    @app.subscribe("orders", "old")
    async def read(order: OrderV2 | OrderV1) -> None:
        got.append(order)

    for order in MIXED[:2]:
        assert (await app.handle("orders", order)).kind == "done"

    assert got == list(MIXED[:2])


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda app: upcast(app, "Order", 1)(dict), "Order:2 on the way to Order:3 by nothing"),
        (lambda app: upcast(app, "Order", 3)(dict), "no later version is registered"),
        (lambda app: upcast(app, "Other", 1)(dict), r"\(registered: none\); register Other:2"),
        (
            lambda app: (upcast(app, "Order", 1)(dict), upcast(app, "Order", 1)(list)),
            "Order:1 is upcast by builtins.dict and by builtins.list; remove one",
        ),
        (lambda app: upcast(app, "Order", 1, to=5)(dict), "past Order:3, which is still"),
        (
            lambda app: (
                upcast(app, "Plain", 1)(dict),
                app.schema("Plain", version=2, envelope=False)(OrderV1),
            ),
            "Plain:2 is registered with envelope=False, so that no record says its version",
        ),
        (lambda app: upcast(app, "Order", 2, to=1), "to=1 is not a later version"),
        (lambda app: upcast(app, "Order:1", 1), "as in upcast"),
        (lambda app: upcast(app, "Order", 0), "versions are whole numbers from 1 on"),
        (lambda app: upcast("Order", "Order", 1), "takes an application or a router"),  # type: ignore[arg-type]
        (lambda app: upcast(app, "Order", 1)(asyncio.sleep), "must be a plain 'def' function"),
    ],
)
async def test_upcasters_that_cannot_work_stop_the_start(declare: Any, said: str) -> None:
    app = Application(plugins=[SchemasPlugin()], entry_points=False)
    app.schema("Order", version=3)(Order)

    @app.subscribe("orders", "one")
    async def read(order: Order) -> None: ...

    async def start() -> None:
        declare(app)
        await app.handle("orders", Order(number=1, articles=[]))

    with pytest.raises(Exception, match=said) as raised:
        await start()

    assert isinstance(raised.value, ConfigurationError) or "failed in" in str(raised.value)

"""A topic that does not exist is waited for, and that is told: in the log once, in the health."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from kafkaesk_core import Application, Router, hookimpl
from kafkaesk_core.topic_names import is_misspelling
from kafkaesk_testing import consuming, eventually


class OwnStream:
    """A plugin that reads a stream of its own: it sees to it that there is one, or needs none."""

    claimed_streams = frozenset({"own.*"})

    @hookimpl
    def declare(self, router: Router) -> None:
        router.subscribe("own.replay", "billing")(handle)


async def handle(data: bytes) -> None: ...


async def test_what_does_not_exist_is_told_once_and_until_it_appears(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Application("embedded://", "shop.", entry_points=False)
    app.subscribe("orders", "billing")(handle)
    app.subscribe_to_topics(["paid", "sent"], "billing")(handle)
    app.subscribe("refunds.*", "billing")(handle)
    app.plugins.register(OwnStream())
    missing = [
        f"group billing: topic shop.{name} does not exist, or we are not authorized to see it"
        for name in ("orders", "paid", "sent")
    ]
    unmatched = "group billing: no topic matches shop.refunds.*"

    async with consuming(app):
        await eventually(lambda: app.health().reasons == (*missing, unmatched), within=20)
        assert app.health().is_live
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert told == [f"{text}; waiting for it" for text in (*missing, unmatched)]

        for stream in ("orders", "paid", "refunds.new"):
            await app.raw_publish(stream, b"1")
        await eventually(lambda: app.health().reasons == (missing[2],), within=20)

    assert caplog.text.count("waiting for it") == 4


class Order(BaseModel):
    number: int


async def test_a_misspelt_stream_is_told_beside_the_one_that_is_declared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Application("embedded://", "shop.", entry_points=False)
    app.schema("Order", streams=["orders.placed"])(Order)
    app.subscribe("order.placed", "billing")(handle)

    async with consuming(app):
        await app.publish("orders.plcaed", Order(number=1))
        await app.publish("orders.plcaed", Order(number=2))
        await app.publish("orders.archived", Order(number=3))
        await eventually(lambda: bool(app.health().reasons), within=20)
        (reason,) = app.health().reasons

    assert reason == (
        "group billing: topic shop.order.placed does not exist, or we are not authorized to see "
        "it; did you mean shop.orders.placed?"
    )
    told = [r.getMessage() for r in caplog.records if r.name == "kafkaesk.topics"]
    assert told == [
        "schema Order is published to topic shop.orders.plcaed, which is not one of its streams; "
        "did you mean shop.orders.placed? If not, name both in streams="
    ]


@pytest.mark.parametrize(
    ("name", "other", "is_one"),
    [
        ("orders.plcaed", "orders.placed", True),
        ("order.placed", "orders.placed", True),
        ("orders-placed", "orders.placed", True),
        ("ordersplaced", "orders.placed", True),
        ("Orders.placed", "orders.placed", True),
        ("invoces", "invoices", True),
        ("orders.placed", "orders.placed", False),
        ("orders.eu", "orders.us", False),
        ("orders.paid", "orders.placed", False),
        ("orders.created", "orders.updated", False),
        ("order.palced", "orders.placed", False),
        ("tenant-1.orders", "tenant-2.orders", False),
        ("orders", "stock", False),
    ],
)
def test_one_part_that_differs_a_little_makes_a_misspelling(
    name: str, other: str, is_one: bool
) -> None:
    assert is_misspelling(name, other) is is_one
    assert is_misspelling(other, name) is is_one

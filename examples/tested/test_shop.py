"""Tests of shop.py: one of the handler alone, one through a broker in the process.

pip install kafkaesk-testing && pytest examples/tested
"""

from typing import Any

from examples.tested.shop import Invoice, Order, app, bill


class Published:
    """In place of the subscriber: notes what a handler publishes."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def publish(self, stream: str, message: Any) -> None:
        self.messages.append((stream, message))


async def test_a_small_order_is_free() -> None:
    subscriber: Any = Published()

    await bill(Order(number=1, cents=99), subscriber)

    assert subscriber.messages == []


async def test_an_order_leads_to_an_invoice() -> None:
    app.configure("embedded://", topic_prefix="test.")
    invoices: list[Invoice] = []

    @app.subscribe("invoices.sent", "test")
    async def collect(invoice: Invoice) -> None:
        invoices.append(invoice)

    async with app:
        await app.publish("orders.placed", Order(number=2, cents=350))
        await app.consume_for(2, seconds=20)  # the order, and its invoice

    assert invoices == [Invoice(order=2, cents=350)]

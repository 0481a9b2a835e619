"""A service, as it is tested in test_shop.py beside it.

kafkaesk examples.tested.shop:app --kafka-servers embedded://
"""

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import Subscriber

app = kafkaesk_core.Application()


@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int
    cents: int


@app.schema("Invoice", version=1, streams=["invoices.sent"])
class Invoice(BaseModel):
    order: int
    cents: int


@app.subscribe("orders.placed", "billing")
async def bill(order: Order, subscriber: Subscriber) -> None:
    """Orders below one euro are free."""
    if order.cents >= 100:
        await subscriber.publish("invoices.sent", Invoice(order=order.number, cents=order.cents))

"""An outbox: what is published in a transaction is sent once it is committed, and only then.

kafkaesk examples.outbox:app --kafka-servers embedded://
"""

import asyncio
import sqlite3
from ast import literal_eval

from pydantic import BaseModel

from kafkaesk_core import Application, Delivery, OutgoingMessage, PublishCall, hookimpl
from kafkaesk_core.structs import RecordMetadata


class Outbox:
    stage = "deliver"

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("CREATE TABLE IF NOT EXISTS outbox (topic, value, key, headers)")
        self.futures: dict[int, asyncio.Future[RecordMetadata]] = {}

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        if not self.database.in_transaction:
            return await call_next(message)
        row = (message.topic, message.encoded, message.key, repr(message.headers))
        number = self.database.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", row).lastrowid
        future = self.futures[number or 0] = asyncio.get_running_loop().create_future()
        return Delivery.deferred(future, message.topic)

    async def send(self) -> None:  # a service also calls it at its start, for after a crash
        rows = self.database.execute("SELECT rowid, * FROM outbox").fetchall()
        for number, topic, value, key, headers in rows:
            sent = await (await app.forward(topic, value, key, literal_eval(headers)))
            self.database.execute("DELETE FROM outbox WHERE rowid = ?", (number,))
            self.futures.pop(number, asyncio.Future()).set_result(sent)


app = Application(plugins=[outbox := Outbox(":memory:")])  # a file, in a real service


@app.schema("Order", streams=["orders.placed"])
class Order(BaseModel):
    number: int


@app.subscribe("orders.placed", "billing")
async def bill(order: Order) -> None:
    print("order", order.number, "was committed and sent")


@app.on("initialize")
async def begin() -> None:
    for number, end in ((1, "ROLLBACK"), (2, "COMMIT")):
        outbox.database.execute("BEGIN")
        await app.publish("orders.placed", Order(number=number))
        outbox.database.execute(end)
        await outbox.send()

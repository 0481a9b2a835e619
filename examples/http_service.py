"""An HTTP service that publishes and consumes: FastAPI and kafkaesk in one event loop.

KAFKAESK_KAFKA_SERVERS=embedded:// uvicorn examples.http_service:service

Without HTTP: kafkaesk examples.http_service:app
"""

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core.asgi import lifespan

app = kafkaesk_core.Application()
billed: dict[int, "Order"] = {}  # a table, in a real service


@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int
    article: str


@app.subscribe("orders.placed", "billing")
async def bill(order: Order) -> None:
    billed[order.number] = order


# Its stop lets handlers finish and commits; it ends where a handler fails for good.
service = FastAPI(lifespan=lifespan(app))


@service.post("/orders", status_code=202)
async def place_order(order: Order) -> dict[str, int]:
    await app.publish_and_wait("orders.placed", order)  # the broker has it: 202 is true
    return {"number": order.number}


@service.get("/orders/{number}")
async def read_order(number: int) -> Order:
    if number not in billed:
        raise HTTPException(404, f"order {number} is not billed yet")
    return billed[number]


@service.get("/health")
async def health(response: Response) -> dict[str, list[str]]:
    response.status_code = 200 if app.health().is_live else 503
    return {"reasons": list(app.health().reasons)}

"""The service of the kill test: writes the number of each order it has handled to a file.

`kafkaesk orders` runs it; the file is named by ORDERS_LOG, one line per handled order, appended
before the handler returns, so that a killed process has told what it did.
"""

from __future__ import annotations

import os
from functools import cache

from pydantic import BaseModel

from kafkaesk_core import Application

__all__ = ["Order", "app"]

app = Application(auto_commit_interval_ms=1000)


@app.schema("Order", version=1, streams=["orders"])
class Order(BaseModel):
    """One order."""

    number: int
    customer: int


@app.subscribe("orders", "billing", ordering="key")
async def bill(order: Order) -> None:
    """Note that the order was handled."""
    line = f"{os.getpid()} {order.customer} {order.number}\n".encode()
    os.write(_log(), line)


@cache
def _log() -> int:
    """Open the file, once per process."""
    return os.open(os.environ["ORDERS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

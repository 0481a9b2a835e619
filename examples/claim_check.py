"""A claim check: large messages are kept elsewhere, and their records hold a ticket.

    kafkaesk examples.claim_check:app --kafka-servers embedded://

The stage "deliver" sees the final bytes, behind validation and encoding; encryption looks the same.
"""

import logging
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import ConsumeCall, IncomingMessage, OutgoingMessage, PublishCall, hookimpl

logger = logging.getLogger("claim_check")
LARGEST = 1_000  # bytes that a record may hold


class ClaimCheck:
    stage = "deliver"
    claimed_headers = frozenset({"claim"})

    def __init__(self) -> None:
        self.store: dict[bytes, bytes] = {}  # a bucket, in a real service

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Any:
        value = message.encoded
        if value is not None and len(value) > LARGEST:
            ticket = uuid4().bytes
            self.store[ticket] = value
            message.encoded = ticket
            message.headers.append(("claim", b"1"))
        return await call_next(message)

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: ConsumeCall) -> Any:
        if ("claim", b"1") in message.headers and message.value in self.store:
            message.value = self.store[message.value]
        return await call_next(message)


app = kafkaesk_core.Application(plugins=[ClaimCheck()])


@app.schema("Report", streams=["reports"])
class Report(BaseModel):
    text: str


@app.subscribe("reports", "archive")
async def keep(report: Report, record: kafkaesk_core.ConsumerRecord) -> None:
    logger.info("%d characters, %d bytes on the wire", len(report.text), len(record.value or b""))


@app.on("initialize")
async def begin() -> None:
    await app.publish("reports", Report(text="x" * 5_000))

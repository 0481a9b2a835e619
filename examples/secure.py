"""TLS and SASL: the connection is encrypted, and the service logs in with a user and a password.

KAFKA_USER=shop KAFKA_PASSWORD=... KAFKA_CA=ca.pem \
    kafkaesk examples.secure:app --kafka-servers broker:9093

Without KAFKA_CA the system's certificate authorities are trusted. A password is never logged.
"""

import logging
import os

from pydantic import BaseModel

import kafkaesk_core

logger = logging.getLogger("secure")
app = kafkaesk_core.Application(
    kafka_settings={
        "security_protocol": "SASL_SSL",  # "SSL" without a user, and "SASL_PLAINTEXT" without TLS
        "ssl_cafile": os.environ.get("KAFKA_CA"),
        "sasl_mechanism": os.environ.get("KAFKA_MECHANISM", "SCRAM-SHA-512"),
        "sasl_plain_username": os.environ.get("KAFKA_USER", ""),
        "sasl_plain_password": os.environ.get("KAFKA_PASSWORD", ""),
    }
)


@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int


@app.subscribe("orders.placed", "billing")
async def bill(order: Order) -> None:
    logger.info("order %d came over an encrypted connection", order.number)


@app.on("initialize")
async def place_order() -> None:
    await app.publish("orders.placed", Order(number=1))

"""Log lines with models, shipped to a stream and read back from it.

kafkaesk examples.logger:app --kafka-servers embedded://
"""

import logging

from pydantic import BaseModel

from kafkaesk_core import Application
from kafkaesk_logging import PydanticKafkaeskHandler, PydanticLogModel, PydanticStreamHandler

app = Application()


class UserLog(BaseModel):
    _is_log_model = True
    user: str


shipped = logging.getLogger("example.shipped")
shipped.addHandler(PydanticKafkaeskHandler(app, "logging.test"))
shipped.setLevel(logging.DEBUG)

shown = logging.getLogger("example.shown")
shown.addHandler(PydanticStreamHandler())
shown.setLevel(logging.DEBUG)
shown.propagate = False


@app.subscribe("logging.test", group="example.logging.consumer")
async def consume(data: PydanticLogModel) -> None:
    shown.info(f"read back: {data.model_dump_json()}")


async def log() -> None:
    shipped.debug("Log Message", UserLog(user="kafkaesk"))
    shown.info("Log Message", UserLog(user="kafkaesk"))


app.on("initialize", log)

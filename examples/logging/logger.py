"""A log line with a model goes to a stream; a subscriber of the stream shows it.

KAFKAESK_KAFKA_SERVERS=embedded:// python -m examples.logging.logger
"""

import asyncio
import logging

from pydantic import BaseModel

from kafkaesk_core import Application
from kafkaesk_logging import PydanticKafkaeskHandler, PydanticLogModel, PydanticStreamHandler


class UserLog(BaseModel):
    _is_log_model = True
    user: str | None


async def main() -> None:
    app = Application()
    shipped = logging.getLogger("example.shipped")
    shipped.addHandler(PydanticKafkaeskHandler(app, "logging.test"))
    shipped.setLevel(logging.DEBUG)
    shown = logging.getLogger("example.shown")
    shown.addHandler(PydanticStreamHandler())
    shown.setLevel(logging.DEBUG)

    @app.subscribe("logging.test", group="example.logging.consumer")
    async def show(data: PydanticLogModel) -> None:
        shown.info("read back: %s", data.model_dump_json(exclude_none=True))

    async with app:
        shipped.debug("logged in", UserLog(user="ada"))
        shown.debug("logged in", UserLog(user="ada"))
        await app.flush()
        await app.consume_for(1, seconds=20)


if __name__ == "__main__":
    asyncio.run(main())

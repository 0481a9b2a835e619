"""The handler in a configuration of logging; the application is found when it starts.

kafkaesk examples.logging.with_dict_config:app --kafka-servers embedded://
"""

import logging
from logging.config import dictConfig

from kafkaesk_core import Application
from kafkaesk_logging import LogModel, PydanticLogModel

dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "kafka": {
                "()": "kafkaesk_logging.PydanticKafkaeskHandler",
                "app": "examples.logging.with_dict_config:app",
                "stream": "logs",
                "level": "INFO",
                "drop_policy": "drop_newest",
            }
        },
        "loggers": {"shop": {"handlers": ["kafka"], "level": "DEBUG"}},
    }
)
logger = logging.getLogger("shop")
app = Application()


class Placed(LogModel):
    order: int


@app.subscribe("logs", "log-readers")
async def show(line: PydanticLogModel) -> None:
    fields = line.model_extra or {}
    print(fields["severity"], fields["message"], fields.get("order"), flush=True)


async def open_shop() -> None:
    logger.debug("below the handler's level")
    logger.info("order placed", Placed(order=7))


app.on("initialize", open_shop)

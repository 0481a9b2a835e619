"""structlog in front of the handler: its events and bound context become fields of the lines.

KAFKAESK_LOGGING_STREAM=logs kafkaesk examples.logs_structlog:app --kafka-servers embedded://
"""

import structlog

from kafkaesk_core import Application
from kafkaesk_logging import PydanticLogModel

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
logger = structlog.get_logger("shop")
app = Application()


@app.subscribe("logs", group="example.structlog")
async def consume(data: PydanticLogModel) -> None:
    fields = data.model_extra or {}
    if fields["logger"] == "shop":
        print("read back:", fields["message"], fields["order"], fields["request"])


async def log() -> None:
    structlog.contextvars.bind_contextvars(request="r-1")
    logger.info("order placed", order=7)


app.on("initialize", log)

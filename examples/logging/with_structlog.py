"""structlog beside the handler: its events and bound values become fields of the line.

KAFKAESK_LOGGING_STREAM=logs KAFKAESK_LOGGING_LOGGERS=shop \
kafkaesk examples.logging.with_structlog:app --kafka-servers embedded://
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


@app.subscribe("logs", "log-readers")
async def show(line: PydanticLogModel) -> None:
    fields = line.model_extra or {}
    print(fields["severity"], fields["message"], fields["order"], fields["request"], flush=True)


async def open_shop() -> None:
    with structlog.contextvars.bound_contextvars(request="r-1"):
        logger.bind(order=7).warning("order placed late")


app.on("initialize", open_shop)

"""Python's warnings as log lines: they come from the logger py.warnings.

KAFKAESK_LOGGING_STREAM=logs KAFKAESK_LOGGING_LOGGERS=py.warnings \
kafkaesk examples.logging.with_warnings:app --kafka-servers embedded://
"""

import logging
import warnings

from kafkaesk_core import Application
from kafkaesk_logging import PydanticLogModel

logging.captureWarnings(True)
app = Application()


@app.subscribe("logs", "log-readers")
async def show(line: PydanticLogModel) -> None:
    fields = line.model_extra or {}
    print(fields["severity"], fields["logger"], fields["message"], flush=True)


async def open_shop() -> None:
    warnings.warn("the old way to order ends in May", FutureWarning, stacklevel=1)


app.on("initialize", open_shop)

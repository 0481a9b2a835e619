"""Python's warnings as log lines of the logger py.warnings.

KAFKAESK_LOGGING_STREAM=logs kafkaesk examples.logs_warnings:app --kafka-servers embedded://
"""

import logging
import warnings

from kafkaesk_core import Application
from kafkaesk_logging import PydanticLogModel

logging.captureWarnings(True)
app = Application()


@app.subscribe("logs", group="example.warnings")
async def consume(data: PydanticLogModel) -> None:
    fields = data.model_extra or {}
    if fields["logger"] == "py.warnings":
        print("read back:", fields["message"])


async def warn() -> None:
    warnings.warn("the old way of ordering ends in May", DeprecationWarning, stacklevel=1)


app.on("initialize", warn)

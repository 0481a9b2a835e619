"""Log lines of the command `kafkaesk`: readable text, or one JSON object per line."""

from __future__ import annotations

import json
import logging
import sys
import time

__all__ = ["set_up_logging"]


class JsonFormatter(logging.Formatter):
    """One JSON object per record: timestamp (UTC), level, logger, message, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record as JSON."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "timestamp": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def set_up_logging(level: str, style: str) -> None:
    """Log to standard error; `style` is "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        logging.getLogger("aiokafka").setLevel(logging.WARNING)
        logging.getLogger("aiokafka").addFilter(_is_not_told_by_us)


def _is_not_told_by_us(record: logging.LogRecord) -> bool:
    # Each failed connection; why the cluster cannot be reached is told once, with the remedy.
    return not str(record.msg).startswith("Unable connect to")

"""Where a record goes that Kafka will not have: to standard error, if nobody else shows it."""

from __future__ import annotations

import logging
import time
from typing import Any

from pydantic_core import from_json

from .losses import write_line

__all__ = ["Fallback", "Shipping"]

# Any below: fields of a line.
_PER_SECOND = 100


class Shipping:
    """What a handler is that ships records; another one than such a handler shows them."""


class Fallback:
    """Shows records of a level from `level` up that no other handler of their loggers takes.

    At most 100 in a second; how many more there were is said. With `level` None it shows none.
    """

    def __init__(self, level: int | None) -> None:
        self._level = level
        self._second = 0
        self._shown = self._hidden = 0

    def takes(self, logger: str, level: int) -> bool:
        """Whether it is ours to show such a record."""
        return self._level is not None and level >= self._level and not _is_shown(logger, level)

    def show(self, fields: dict[str, Any]) -> None:
        """Show a record, given the fields of its line."""
        logger, level = str(fields.get("logger")), fields.get("level")
        if not self.takes(logger, level if isinstance(level, int) else 0) or not self._may():
            return
        when, severity = fields.get("timestamp"), fields.get("severity")
        text = f"{when} {severity} {logger}: {fields.get('message')}"
        trace = fields.get("trace") or fields.get("stack")
        write_line(f"{text}\n{trace}" if trace else text)

    def show_line(self, line: bytes) -> None:
        """Show a record, given its line."""
        self.show(from_json(line)["data"])

    def _may(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            if self._hidden:
                write_line(f"kafkaesk-logging: {self._hidden} more records were not shown")
            self._second, self._shown, self._hidden = second, 0, 0
        if self._shown >= _PER_SECOND:
            self._hidden += 1
            return False
        self._shown += 1
        return True


def _is_shown(name: str, level: int) -> bool:
    """Whether some other handler takes records of this logger and level."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in logger.handlers:
            is_other = not isinstance(handler, (Shipping, logging.NullHandler))
            if is_other and level >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False

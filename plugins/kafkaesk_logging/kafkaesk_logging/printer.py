"""Prints the log lines among the records of a stream, those that are asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TextIO

from aiokafka.structs import ConsumerRecord

from .line import SCHEMA
from .readable import level_of, readable

__all__ = ["LinePrinter"]

_NAME = SCHEMA.partition(":")[0]


class LinePrinter:
    """Prints to a text stream; `tell` is called with what is to be known beside the lines.

    Lines below `level` are left out, and those whose text has nothing that `pattern` matches. One
    without a level is never left out for that.
    """

    def __init__(
        self,
        output: TextIO,
        tell: Callable[[str], None],
        *,
        level: int = 0,
        pattern: re.Pattern[str] | None = None,
        as_json: bool = False,
        is_coloured: bool = False,
    ) -> None:
        self._output = output
        self._tell = tell
        self._level = level
        self._pattern = pattern
        self._as_json = as_json
        self._is_coloured = is_coloured
        self._told: set[str] = set()
        self._others = 0

    def show(self, record: ConsumerRecord) -> None:
        """Print a record if it is a line that is asked for."""
        fields, otherwise = _fields(record.value)
        if otherwise:
            self._note(record, otherwise)
            return
        level = level_of(fields)
        if level is not None and level < self._level:
            return
        if self._pattern and not self._pattern.search(readable(fields, record.timestamp)):
            return
        if self._as_json:
            text = json.dumps(fields, separators=(",", ":"))
        else:
            text = readable(fields, record.timestamp, is_coloured=self._is_coloured)
        self._output.write(f"{text}\n")

    def flush(self) -> None:
        """Hand out what was printed."""
        self._output.flush()

    def finish(self) -> None:
        """Tell how many records were no log lines, unless each was told."""
        self.flush()
        if self._others > len(self._told):
            self._tell(f"{self._others} records were no log lines")

    def _note(self, record: ConsumerRecord, why: str) -> None:
        """Tell the first of a kind; the others are counted."""
        self._others += 1
        if why not in self._told:
            self._told.add(why)
            self._tell(
                f"{record.topic}[{record.partition}]@{record.offset} is not a log line: {why}"
            )


def _fields(value: bytes | None) -> tuple[dict[str, Any], str]:  # Any: fields are of any type
    """Return the fields of a line, or why it is none."""
    if value is None:
        return {}, "it has no value"
    try:
        message = json.loads(value)
    except (ValueError, RecursionError):
        return {}, "it is not valid JSON"
    if not isinstance(message, dict) or "schema" not in message:
        return {}, "it has no schema"
    schema, data = message["schema"], message.get("data")
    if not isinstance(schema, str) or schema.partition(":")[0] != _NAME:
        return {}, f"its schema is {ascii(schema)[:100]}"
    if not isinstance(data, dict):
        return {}, "its data is not an object"
    return data, ""

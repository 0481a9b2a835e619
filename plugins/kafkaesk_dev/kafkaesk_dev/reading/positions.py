"""The positions where reading begins and ends: an offset, a time, an age, or a record count."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kafkaesk_core import Cluster, TopicPartition

__all__ = ["Position", "parse_position", "resolve"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_LAST = re.compile(r"-(\d+)")
Kind = Literal["begin", "end", "last", "offset", "time"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in each partition; `number` is a count, an offset, or milliseconds since 1970."""

    kind: Kind
    number: int = 0


def parse_position(text: str) -> Position:
    """Parse a position of --from or --until.

    Raises:
        ValueError: the text is not a position; the error lists the valid forms.
    """
    if text in ("begin", "end"):
        return Position("begin" if text == "begin" else "end")
    if found := _LAST.fullmatch(text):
        return Position("last", int(found[1]))
    if text.isascii() and text.isdecimal():
        return Position("offset", int(text))
    if found := _AGE.fullmatch(text):
        return Position("time", int((time.time() - float(found[1]) * _UNITS[found[2]]) * 1000))
    try:
        at = datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        at = -1.0
    if at < 0:
        raise ValueError(
            f"{text!r} is not a position in a stream; write an offset, -100 for the last 100 "
            "records, an age as 90s, 30m, 2h or 7d, a time as 2026-01-31T12:00, begin or end"
        )
    return Position("time", int(at * 1000))


async def resolve(
    position: Position,
    cluster: Cluster,
    topic: str,
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """Return the offset of a position in each partition, within the partition's log."""
    if position.kind == "begin":
        return dict(begins)
    if position.kind == "end":
        return dict(ends)
    if position.kind == "time":
        found = await cluster.offsets_at([topic], position.number)
    elif position.kind == "last":
        found = {one: end - position.number for one, end in ends.items()}
    else:
        found = dict.fromkeys(ends, position.number)
    return {one: min(max(found.get(one, end), begins[one]), end) for one, end in ends.items()}

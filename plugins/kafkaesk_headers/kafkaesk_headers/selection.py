"""Which headers are handed on: by name, and as many as there is room for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache

from kafkaesk_core import Header

__all__ = ["DENIED", "Selection"]

DENIED = (
    # what describes the payload, or the very message, that it came with
    "content-type",
    "ce_*",
    "__TypeId__",
    "spring_json_header_types",
    "__key_schema_id",
    "__value_schema_id",
    "causation-id",
    # what transports, retries and dead letters note for themselves
    "kafkaesk-*",
    "kafka_*",
    "retry_topic-*",
    "__connect.errors.*",
    "__streams.errors.*",
)
"""Patterns of names that are not handed on unless the settings say so."""

REMEMBERED = 1024


class Selection:
    """Takes headers by name (fnmatch, case-sensitive), within limits of bytes and of count.

    `exclude` beats `include`. Headers that another plugin owns (`claimed`) are never taken.
    """

    def __init__(
        self, include: Iterable[str], exclude: Iterable[str], *, max_bytes: int, max_count: int
    ) -> None:
        self._include = _any_of(include)
        self._exclude = _any_of(exclude)
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._claimed: frozenset[str] = frozenset()
        self._takes = lru_cache(REMEMBERED)(self._decide)

    def leave_out(self, claimed: frozenset[str]) -> None:
        """Take no headers of these names from now on."""
        if claimed != self._claimed:
            self._claimed = claimed
            self._takes.cache_clear()

    def _decide(self, name: str) -> bool:
        return (
            name not in self._claimed
            and self._include.match(name) is not None
            and self._exclude.match(name) is None
        )

    def take(self, headers: Iterable[Header]) -> tuple[list[Header], int]:
        """Return the headers to hand on, in their order, and how many there was no room for."""
        takes = self._takes
        chosen = [header for header in headers if takes(header[0])]
        if len(chosen) <= self._max_count and _size(chosen) <= self._max_bytes:
            return chosen, 0
        kept = self._within_limits(chosen)
        return kept, len(chosen) - len(kept)

    def _within_limits(self, headers: Sequence[Header]) -> list[Header]:
        """Drop whole names: first those that alone are too much, then the last ones."""
        by_name: dict[str, list[Header]] = {}
        for header in headers:
            by_name.setdefault(header[0], []).append(header)
        size = count = 0
        kept = set()
        for name, entries in by_name.items():
            own_size, own_count = _size(entries), len(entries)
            if own_size > self._max_bytes or own_count > self._max_count:
                continue
            if size + own_size > self._max_bytes or count + own_count > self._max_count:
                break
            size, count = size + own_size, count + own_count
            kept.add(name)
        return [header for header in headers if header[0] in kept]


def _size(headers: Iterable[Header]) -> int:
    size = 0
    for name, value in headers:
        size += len(name)
        if value is not None:
            size += len(value)
    return size


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for all the patterns; for none, one that matches nothing."""
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")

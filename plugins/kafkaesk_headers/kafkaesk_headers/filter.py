"""Selects inherited headers by name and within limits; lets a message drop headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafkaesk_core import Header

__all__ = ["DEFAULT_EXCLUDE", "HeaderFilter", "drop_header", "is_dropped"]

DEFAULT_EXCLUDE = (
    # headers that describe the payload, or this one message
    "content-type",
    "ce_*",
    "__TypeId__",
    "spring_json_header_types",
    "__key_schema_id",
    "__value_schema_id",
    "causation-id",
    # headers of transports, retries and dead letters
    "kafkaesk-*",
    "kafka_*",
    "retry_topic-*",
    "__dlq.errors.*",
    "__connect.errors.*",
    "__streams.errors.*",
)
"""Patterns of names that are not inherited by default."""

REMEMBERED = 1024


class HeaderFilter:
    """Accepts headers by name (fnmatch, case-sensitive), up to limits of bytes and count.

    `exclude` takes precedence over `include`. Headers of other plugins are never accepted.
    """

    def __init__(
        self, include: Iterable[str], exclude: Iterable[str], *, max_bytes: int, max_count: int
    ) -> None:
        self._include = _any_of(include)
        self._exclude = _any_of(exclude)
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._claimed: frozenset[str] = frozenset()
        self._accepts = lru_cache(REMEMBERED)(self._decide)

    def exclude(self, claimed: frozenset[str]) -> None:
        """Refuse headers with these names from now on."""
        if claimed != self._claimed:
            self._claimed = claimed
            self._accepts.cache_clear()

    def _decide(self, name: str) -> bool:
        return (
            name not in self._claimed
            and self._include.match(name) is not None
            and self._exclude.match(name) is None
        )

    def apply(self, headers: Iterable[Header]) -> tuple[list[Header], int]:
        """Return the accepted headers, in order, and the number that exceeded the limits."""
        accepts = self._accepts
        chosen = [header for header in headers if accepts(header[0])]
        if len(chosen) <= self._max_count and _size(chosen) <= self._max_bytes:
            return chosen, 0
        kept = self._within_limits(chosen)
        return kept, len(chosen) - len(kept)

    def _within_limits(self, headers: Sequence[Header]) -> list[Header]:
        """Drop headers by name: first names that exceed a limit alone, then the last names."""
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


class _Dropped(bytes):
    """Stands for the value of a dropped header until the plugin removes it."""


_NOTHING = _Dropped()


def drop_header(name: str) -> Header:
    """Return a mark for `headers=`: the message neither inherits nor sends this header."""
    return name, _NOTHING


def is_dropped(header: Header) -> bool:
    """Whether a header is a mark from `drop_header`."""
    return isinstance(header[1], _Dropped)


def _size(headers: Iterable[Header]) -> int:
    size = 0
    for name, value in headers:
        size += len(name)
        if value is not None:
            size += len(value)
    return size


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return one expression for all patterns; without patterns, it matches nothing."""
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")

"""Selects records by key, schema, header, or a value in their JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kafkaesk_core import ConsumerRecord, Header

from .contents import Content

__all__ = ["Filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The conditions for a record; None and empty values are no condition.

    `schema` is a name, with or without a version. `where` has pairs of a JSON pointer into the
    value, including the envelope, and the text expected there. `since_ms` and `before_ms` are times
    in milliseconds since 1970.
    """

    key: bytes | None = None
    schema: str | None = None
    headers: tuple[Header, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    since_ms: int | None = None
    before_ms: int | None = None

    def takes(self, record: ConsumerRecord, content: Content) -> bool:
        """Whether a record satisfies all conditions."""
        return (
            (self.since_ms is None or record.timestamp >= self.since_ms)
            and (self.before_ms is None or record.timestamp < self.before_ms)
            and self.key in (None, record.key)
            and self.schema in (None, content.schema, content.schema.partition(":")[0])
            and all(header in record.headers for header in self.headers)
            and all(_has(content.document, *each) for each in self.where)
        )


def _has(document: Any, pointer: str, text: str) -> bool:  # any JSON
    """Whether a document has this text at a JSON pointer (RFC 6901)."""
    found = document
    try:
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
    except (ValueError, KeyError, IndexError, TypeError):
        return False
    return text == (found if isinstance(found, str) else json.dumps(found))

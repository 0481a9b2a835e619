"""Which names Kafka accepts for topics."""

from __future__ import annotations

import re

__all__ = ["LONGEST", "TOPIC_NAME_RULE", "invalid_character", "is_topic_name"]

# https://github.com/apache/kafka/blob/4.0.0/clients/src/main/java/org/apache/kafka/common/internals/Topic.java
LONGEST = 249
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_INVALID = re.compile(r"[^a-zA-Z0-9._-]")
TOPIC_NAME_RULE = (
    f"Kafka allows 1 to {LONGEST} of the characters a-z, A-Z, 0-9, '.', '_' and '-', "
    "and neither '.' nor '..'"
)


def is_topic_name(name: str) -> bool:
    """Whether Kafka takes this as the name of a topic."""
    return bool(_NAME.fullmatch(name)) and len(name) <= LONGEST and name not in (".", "..")


def invalid_character(text: str) -> str | None:
    """Return the first character that no topic's name has; None if all may be in one."""
    found = _INVALID.search(text)
    return found.group() if found else None

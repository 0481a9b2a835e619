"""Kafka's rule for topic names, and a guess whether one name is a misspelling of another."""

from __future__ import annotations

import re

__all__ = ["LONGEST", "TOPIC_NAME_RULE", "invalid_character", "is_misspelling", "is_topic_name"]

# https://github.com/apache/kafka/blob/4.0.0/clients/src/main/java/org/apache/kafka/common/internals/Topic.java
LONGEST = 249
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_SEPARATOR = re.compile(r"[._-]")
_SIMILAR = 0.8
_INVALID = re.compile(r"[^a-zA-Z0-9._-]")
TOPIC_NAME_RULE = (
    f"Kafka allows 1 to {LONGEST} of the characters a-z, A-Z, 0-9, '.', '_' and '-', "
    "and neither '.' nor '..'"
)


def is_topic_name(name: str) -> bool:
    """Whether Kafka accepts this as a topic name."""
    return bool(_NAME.fullmatch(name)) and len(name) <= LONGEST and name not in (".", "..")


def invalid_character(text: str) -> str | None:
    """Return the first character that is invalid in a topic name; None if all are valid."""
    found = _INVALID.search(text)
    return found.group() if found else None


def is_misspelling(name: str, other: str) -> bool:
    """Whether a name may be a misspelling of another: one part differs slightly.

    Parts that differ only in digits, or hardly resemble each other, as in `orders.eu` and
    `orders.us`, are different names.
    """
    parts, others = _SEPARATOR.split(name), _SEPARATOR.split(other)
    if len(parts) != len(others):
        return "".join(parts) == "".join(others)
    different = [pair for pair in zip(parts, others, strict=True) if pair[0] != pair[1]]
    if len(different) != 1:
        return name != other and not different
    from difflib import SequenceMatcher

    (one, two) = (re.sub(r"\d", "", part) for part in different[0])
    return one != two and SequenceMatcher(None, one, two).ratio() >= _SIMILAR

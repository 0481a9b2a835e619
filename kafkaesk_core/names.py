"""Which names Kafka takes for topics, and which patterns can match one."""

from __future__ import annotations

import re

__all__ = [
    "LONGEST",
    "RULE",
    "impossible_part",
    "is_literal",
    "is_topic_name",
    "not_in_names",
    "sample_of",
]

# https://github.com/apache/kafka/blob/4.0.0/clients/src/main/java/org/apache/kafka/common/internals/Topic.java
LONGEST = 249
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_INVALID = re.compile(r"[^a-zA-Z0-9._-]")
_WILDCARD = re.compile(r"[*?]|\[!?\]?[^\]]*\]")
RULE = (
    f"Kafka allows 1 to {LONGEST} of the characters a-z, A-Z, 0-9, '.', '_' and '-', "
    "and neither '.' nor '..'"
)


def is_topic_name(name: str) -> bool:
    """Whether Kafka takes this as the name of a topic."""
    return bool(_NAME.fullmatch(name)) and len(name) <= LONGEST and name not in (".", "..")


def is_literal(pattern: str) -> bool:
    """Whether an fnmatch pattern has no wildcards, so that it matches its own text alone."""
    return not _WILDCARD.search(pattern)


def impossible_part(pattern: str) -> str | None:
    """Return what no topic's name has, in an fnmatch pattern; None if nothing.

    "orders/*" can match no topic because of its "/".
    """
    return not_in_names(_WILDCARD.sub("", pattern))


def not_in_names(text: str) -> str | None:
    """Return the first character that no topic's name has; None if all may be in one."""
    found = _INVALID.search(text)
    return found.group() if found else None


def sample_of(pattern: str) -> str:
    """Return a text that stands for all that a pattern matches.

    Only wildcards match what it has in the places of wildcards, so another pattern that matches
    the sample matches, as far as topics can exist, everything that this one does.
    """
    return _WILDCARD.sub(lambda found: "\0" * (LONGEST if found.group() == "*" else 1), pattern)

"""Finds the topic of a stream, or waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from difflib import get_close_matches

from kafkaesk_core import Cluster, TopicError

__all__ = ["find_topic"]

_PAUSE_SECONDS = 0.5


async def find_topic(
    cluster: Cluster, topic: str, tell: Callable[[str], None], *, waits: bool
) -> int:
    """Return a topic's number of partitions; with `waits`, wait until the topic exists.

    Raises:
        TopicError: the topic does not exist.
    """
    is_told = False
    while not (count := (await cluster.partitions([topic])).get(topic, 0)):
        if not waits:
            known = [each.name for each in await cluster.topics() if not each.is_internal]
            close = get_close_matches(topic, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TopicError(
                f"topic {topic} does not exist at {', '.join(cluster.servers)}, or this user is "
                f"not authorized to see it{hint}",
                topic=topic,
            )
        if not is_told:
            tell(f"topic {topic} does not exist yet; waiting for it")
            is_told = True
        await asyncio.sleep(_PAUSE_SECONDS)
    return count

"""The clients of aiokafka that this process has, without a way through the library's inside."""

from __future__ import annotations

import gc

from aiokafka import AIOKafkaConsumer

__all__ = ["open_consumers"]


def open_consumers() -> dict[str | None, AIOKafkaConsumer]:
    """The consumers that are not closed, by their group."""
    found = [each for each in gc.get_objects() if isinstance(each, AIOKafkaConsumer)]
    return {each._group_id: each for each in found if not each._closed}

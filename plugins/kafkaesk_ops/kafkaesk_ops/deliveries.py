"""Deliveries that are followed to their end, those of a batch together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial

from kafkaesk_core import Delivery

__all__ = ["Deliveries", "Followed"]

Followed = tuple[Delivery, float]
"""A delivery, and when its message was published, by the clock `time.perf_counter`."""


class Deliveries:
    """Calls `ended` with deliveries that have all been acknowledged, or have all failed, and when.

    One callback for all of a batch: one for each message costs as much as all else of a histogram.
    """

    def __init__(self, ended: Callable[[Sequence[Followed], float], None]) -> None:
        self._ended = ended
        self._open: dict[object, list[Followed]] = {}

    def follow(self, delivery: Delivery, began: float) -> None:
        """Wait for the end of a delivery."""
        if not isinstance(delivery, Delivery):
            return  # an inner layer has broken its contract, which the core tells its author
        followed = self._open.get(delivery.batch)
        if followed is not None:
            followed.append((delivery, began))
            return
        self._open[delivery.batch] = [(delivery, began)]
        # In a context of its own: it may run when the caller's has long ended.
        delivery.add_done_callback(self._end, context=Context())

    def _end(self, delivery: Delivery) -> None:
        followed = self._open.pop(delivery.batch)
        if delivery.batch.is_settled:
            self._ended(followed, time.perf_counter())
            return
        for one, began in followed:  # the batch was split, and its parts end on their own
            one.add_done_callback(partial(self._end_alone, began), context=Context())

    def _end_alone(self, began: float, delivery: Delivery) -> None:
        self._ended([(delivery, began)], time.perf_counter())

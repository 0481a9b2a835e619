"""The outcome of many messages to one topic."""

from __future__ import annotations

from collections import deque

from .delivery import Delivery

__all__ = ["Deliveries"]


class Deliveries:
    """Counts acknowledgements, and keeps only the deliveries that are not done.

    Those of one partition are done in their order.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self._pending: dict[int, deque[Delivery]] = {}

    def add(self, delivery: Delivery) -> None:
        """Wait for this one too."""
        partition = delivery.partition
        pending = self._pending.get(partition)
        if pending is None:
            pending = self._pending[partition] = deque()
        pending.append(delivery)

    def take_done(self) -> None:
        """Count those that are done and forget them.

        Raises:
            DeliveryError: one was not acknowledged.
        """
        for pending in self._pending.values():
            while pending and pending[0].done():
                self._take(pending.popleft())

    async def wait(self) -> int:
        """Wait for all; return how many were acknowledged.

        Raises:
            DeliveryError: one was not.
        """
        for pending in self._pending.values():
            while pending:
                delivery = pending[0]
                if not delivery.done():
                    await delivery
                self._take(pending.popleft())
        return self.acknowledged

    def _take(self, delivery: Delivery) -> None:
        error = delivery.exception()
        if error is not None:
            raise error
        self.acknowledged += 1

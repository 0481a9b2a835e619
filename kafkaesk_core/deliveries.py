"""The outcome of many messages to one topic."""

from __future__ import annotations

from .batch_outcome import BatchOutcome
from .delivery import Delivery

__all__ = ["Deliveries"]


class Deliveries:
    """Counts acknowledgements, and keeps only the deliveries that are not done.

    They are kept by batch, since a batch is done at once.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self._pending: dict[BatchOutcome, list[Delivery]] = {}

    def add(self, delivery: Delivery) -> None:
        """Wait for this one too."""
        pending = self._pending.get(delivery.outcome)
        if pending is None:
            self._pending[delivery.outcome] = [delivery]
        else:
            pending.append(delivery)

    def take_done(self) -> None:
        """Count those of batches that are done, and forget them.

        Raises:
            DeliveryError: one was not acknowledged.
        """
        for outcome in [outcome for outcome in self._pending if outcome.is_done]:
            self._take(outcome)

    async def wait(self) -> int:
        """Wait for all; return how many were acknowledged.

        Raises:
            DeliveryError: one was not.
        """
        while self._pending:
            outcome, deliveries = next(iter(self._pending.items()))
            for delivery in () if outcome.is_done else deliveries:
                await delivery
            self._take(outcome)
        return self.acknowledged

    def _take(self, outcome: BatchOutcome) -> None:
        deliveries = self._pending.pop(outcome)
        if not outcome.is_acknowledged:
            for delivery in deliveries:
                if (error := delivery.exception()) is not None:
                    raise error
        self.acknowledged += len(deliveries)

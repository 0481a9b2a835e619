"""Waiting for an assignment that is still there when the waiting ends."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import SubscriptionState

__all__ = ["await_settled"]


def await_settled(consumer: AIOKafkaConsumer) -> None:
    """Have a consumer, which is not started yet, wait on for an assignment that was taken back.

    A topic that appears changes what a pattern matches, and with it takes back an assignment that
    has just been made. aiokafka's fetcher, which has been told of it and runs a step later, takes
    that for impossible and ends for good.
    """
    consumer._subscription = _Settled()


class _Settled(SubscriptionState):  # type: ignore[misc]  # aiokafka is untyped
    async def wait_for_assignment(self) -> None:
        """Wait for the next assignment; it is there when this returns, in the same step."""
        while True:
            await super().wait_for_assignment()
            subscription = self.subscription
            if subscription is not None and subscription.assignment is not None:
                return

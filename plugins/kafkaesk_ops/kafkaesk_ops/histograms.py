"""Histograms; they need a layer around each message, so they are off by default."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.registry import Collector

from kafkaesk_core import (
    ConsumeBatchCall,
    ConsumeCall,
    Delivery,
    IncomingMessage,
    OutgoingMessage,
    PublishCall,
    Subscription,
    hookimpl,
)

from .counts import Counts, counts_by_labels, histogram
from .deliveries import Deliveries, Followed

__all__ = ["Histograms"]

HANDLER_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
AGE_BUCKETS = (0.01, 0.1, 0.5, 1, 5, 10, 60, 300, 3600, 86400)
DELIVERY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30, 120)


class Histograms(Collector):
    """How long handlers and deliveries take, and how old messages are when they are handled.

    All in seconds. `application` is the label of the application that it is registered in.
    """

    stage = "observe"

    def __init__(self, application: str = "") -> None:
        self._application = application
        self._seconds = counts_by_labels(HANDLER_BUCKETS)
        self._ages = counts_by_labels(AGE_BUCKETS)
        self._delivered = counts_by_labels(DELIVERY_BUCKETS)
        self._of_subscription: dict[Subscription, tuple[Counts, Counts]] = {}
        self._deliveries = Deliveries(self._ended)

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Time one message until the broker acknowledges it."""
        began = time.perf_counter()
        delivery = await call_next(message)
        self._deliveries.follow(delivery, began)
        return delivery

    def _ended(self, followed: Sequence[Followed], now: float) -> None:
        first, _ = followed[0]
        _, error = first.peek() or (None, None)
        if error is None:
            counts = self._delivered[(first.topic,)]
            for _, began in followed:
                counts.observe(now - began)

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:
        """Time one message."""
        seconds, age = self._of_subscription.get(subscription) or self._begin(subscription)
        if (written := message.timestamp_ms) >= 0:
            age.observe(max(0.0, time.time() - written / 1000))
        began = time.perf_counter()
        try:
            return await call_next(message)
        finally:
            seconds.observe(time.perf_counter() - began)

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
    ) -> Any:
        """Time one batch; observe the age of each of its messages."""
        seconds, age = self._of_subscription.get(subscription) or self._begin(subscription)
        now = time.time()
        for message in messages:
            if (written := message.timestamp_ms) >= 0:
                age.observe(max(0.0, now - written / 1000))
        began = time.perf_counter()
        try:
            return await call_next(messages)
        finally:
            seconds.observe(time.perf_counter() - began)

    def _begin(self, subscription: Subscription) -> tuple[Counts, Counts]:
        seconds = self._seconds[subscription.group, subscription.handler_name]
        found = self._of_subscription[subscription] = seconds, self._ages[(subscription.group,)]
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield what was measured so far."""
        yield histogram(
            "kafkaesk_handler_seconds",
            "Seconds of a handler, or of a batch, with the layers of plugins.",
            ("group", "handler"),
            self._seconds,
            self._application,
        )
        yield histogram(
            "kafkaesk_message_age_seconds",
            "Seconds between a record's timestamp and its handling.",
            ("group",),
            self._ages,
            self._application,
        )
        yield histogram(
            "kafkaesk_delivery_seconds",
            "Seconds between the publishing of a message and the broker's acknowledgement.",
            ("topic",),
            self._delivered,
            self._application,
        )

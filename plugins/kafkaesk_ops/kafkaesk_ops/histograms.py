"""Histograms, which need a layer around each message: they are off until they are asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Histogram

from kafkaesk_core import ConsumeBatchCall, ConsumeCall, IncomingMessage, Subscription, hookimpl

__all__ = ["Histograms"]

HANDLER_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
AGE_BUCKETS = (0.01, 0.1, 0.5, 1, 5, 10, 60, 300, 3600, 86400)


class Histograms:
    """How long handlers take, and how old messages are when they are handled, in seconds."""

    stage = "observe"

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "kafkaesk_handler_seconds",
            "Seconds of a handler, or of a batch, with the layers of plugins.",
            ("group", "handler"),
            registry=registry,
            buckets=HANDLER_BUCKETS,
        )
        self._age = Histogram(
            "kafkaesk_message_age_seconds",
            "Seconds between a record's timestamp and its handling.",
            ("group",),
            registry=registry,
            buckets=AGE_BUCKETS,
        )
        self._children: dict[Subscription, tuple[Histogram, Histogram]] = {}

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:
        """Time one message."""
        seconds, age = self._of(subscription)
        age.observe(max(0.0, time.time() - message.record.timestamp / 1000))
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
        """Time one batch; each of its messages has an age."""
        seconds, age = self._of(subscription)
        now = time.time()
        for message in messages:
            age.observe(max(0.0, now - message.record.timestamp / 1000))
        began = time.perf_counter()
        try:
            return await call_next(messages)
        finally:
            seconds.observe(time.perf_counter() - began)

    def _of(self, subscription: Subscription) -> tuple[Histogram, Histogram]:
        found = self._children.get(subscription)
        if found is None:
            found = (
                self._seconds.labels(subscription.group, subscription.handler_name),
                self._age.labels(subscription.group),
            )
            self._children[subscription] = found
        return found

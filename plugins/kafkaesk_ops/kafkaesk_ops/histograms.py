"""Histograms, which need a layer around each message: they are off until they are asked for."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kafkaesk_core import ConsumeBatchCall, ConsumeCall, IncomingMessage, Subscription, hookimpl

__all__ = ["Histograms"]

HANDLER_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
AGE_BUCKETS = (0.01, 0.1, 0.5, 1, 5, 10, 60, 300, 3600, 86400)


class _Counts:
    """How many values there were up to each bound, and their sum.

    It is the event loop's alone, so it takes no lock: prometheus-client's own histogram takes two
    for each value, which costs six times as much.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The counts as Prometheus has them: of each bound, all that is not above it."""
        bounds = map(floatToGoString, (*self._bounds, float("inf")))
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Histograms(Collector):
    """How long handlers take, and how old messages are when they are handled, in seconds."""

    stage = "observe"

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds: dict[Subscription, _Counts] = {}
        self._ages: dict[str, _Counts] = {}
        self._of_subscription: dict[Subscription, tuple[_Counts, _Counts]] = {}
        registry.register(self)

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
        """Time one batch; each of its messages has an age."""
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

    def _begin(self, subscription: Subscription) -> tuple[_Counts, _Counts]:
        seconds = self._seconds.setdefault(subscription, _Counts(HANDLER_BUCKETS))
        age = self._ages.setdefault(subscription.group, _Counts(AGE_BUCKETS))
        found = self._of_subscription[subscription] = seconds, age
        return found

    # --- for Prometheus

    def describe(self) -> Iterable[Metric]:
        """The metrics without a value."""
        return [*self._families()]

    def collect(self) -> Iterator[Metric]:
        """Yield what was measured so far."""
        seconds, ages = self._families()
        for subscription, counts in self._seconds.items():
            labels = (subscription.group, subscription.handler_name)
            seconds.add_metric(labels, counts.buckets(), counts.total)
        for group, counts in self._ages.items():
            ages.add_metric((group,), counts.buckets(), counts.total)
        yield from (seconds, ages)

    def _families(self) -> tuple[HistogramMetricFamily, HistogramMetricFamily]:
        return (
            HistogramMetricFamily(
                "kafkaesk_handler_seconds",
                "Seconds of a handler, or of a batch, with the layers of plugins.",
                labels=("group", "handler"),
            ),
            HistogramMetricFamily(
                "kafkaesk_message_age_seconds",
                "Seconds between a record's timestamp and its handling.",
                labels=("group",),
            ),
        )

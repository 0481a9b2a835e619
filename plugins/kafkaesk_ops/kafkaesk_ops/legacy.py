"""The metrics of kafkaesk 0.8 under their names, for dashboards and alerts that still use them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kafkaesk_core import (
    Application,
    ConsumeBatchCall,
    ConsumeCall,
    Delivery,
    IncomingMessage,
    OutgoingMessage,
    PublishCall,
    RebalanceEvent,
    Subscription,
    hookimpl,
)

from .counts import CountsByLabels, counts_by_labels, histogram
from .deliveries import Deliveries, Followed

__all__ = ["LegacyGroups", "LegacyMessages"]

# Those of 0.8, so that queries for one of the bounds go on working.
SECONDS = Histogram.DEFAULT_BUCKETS[:-1]
LEAD_SECONDS = (0.1, 0.5, 1, 3, 5, 10, 30, 60, 120, 300)
BATCH_SIZES = (1, 5, 10, 20, 50, 100, 200, 500, 1000)

NO_ERROR, SOME_ERROR, CANCELLED = "none", "exception", "cancelled"
NO_PARTITION = "-1"
PLACE = ("stream_id", "group_id", "partition")


class LegacyGroups(Collector):
    """What costs messages nothing: the status when it is asked for, and a count per rebalance."""

    stage = "observe"

    def __init__(self, app: Application, application: str = "") -> None:
        self._app = app
        self._application = application
        self._rebalanced = Counter[tuple[object, ...]]()
        self._last: RebalanceEvent | None = None

    @hookimpl
    def partitions_assigned(self, event: RebalanceEvent) -> None:
        """Count the partitions that were given to this member."""
        self._count(event, "assigned")

    @hookimpl
    def partitions_revoked(self, event: RebalanceEvent) -> None:
        """Count the partitions that this member gave up, or lost: 0.8 told no difference."""
        self._count(event, "revoked")

    def _count(self, event: RebalanceEvent, name: str) -> None:
        if event is self._last:
            return  # each subscription of the group is told
        self._last = event
        for partition in event.partitions:
            self._rebalanced[event.group, partition.partition, name] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield health and offsets of now, and the rebalances so far."""
        health = GaugeMetricFamily(
            "kafkaesk_consumer_health",
            "1 while the member is in its group.",
            labels=("application", "group_id"),
        )
        offsets = GaugeMetricFamily(
            "kafkaesk_consumed_topic_offset",
            "The offset of the last record below the commit.",
            labels=("application", "group_id", "partition", "stream_id"),
        )
        for group in self._app.status().groups:
            health.add_metric((self._application, group.group), float(group.is_joined))
            for each in group.partitions:
                if each.committed:  # else it is not known, or nothing was consumed
                    place = (self._application, group.group, str(each.partition), each.topic)
                    offsets.add_metric(place, each.committed - 1)
        yield health
        yield offsets
        yield _counter(
            "kafkaesk_consumer_rebalanced",
            "Partitions that were assigned and revoked.",
            ("group_id", "partition", "event"),
            self._rebalanced,
            self._application,
        )


class LegacyMessages(Collector):
    """What needs a layer around each message, as the histograms do."""

    stage = "observe"

    def __init__(self, application: str = "") -> None:
        self._application = application
        self._published = _Published()
        self._consumed = _Consumed()
        self._deliveries = Deliveries(self._published.ended)

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Count and time one message: until it is buffered, and until it is acknowledged."""
        topic, error = message.topic, NO_ERROR
        began = time.perf_counter()
        try:
            delivery = await call_next(message)
        except BaseException:
            error = SOME_ERROR
            raise
        finally:
            self._published.attempts[topic, error] += 1
            self._published.buffered[(topic,)].observe(time.perf_counter() - began)
        self._deliveries.follow(delivery, began)
        return delivery

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:
        """Count and time one message."""
        return await self._consumed.around((message,), subscription.group, call_next(message))

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
    ) -> Any:
        """Count and time one batch, and note its size."""
        place = messages[0].topic, subscription.group, messages[0].partition
        self._consumed.sizes[place].observe(len(messages))
        return await self._consumed.around(messages, subscription.group, call_next(messages))

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted and measured so far."""
        yield from self._published.families(self._application)
        yield from self._consumed.families(self._application)


class _Published:
    """The series of published messages."""

    def __init__(self) -> None:
        self.attempts = Counter[tuple[object, ...]]()
        self.buffered = counts_by_labels(SECONDS)
        self._ends = Counter[tuple[object, ...]]()
        self._seconds = counts_by_labels(SECONDS)
        self._offsets: dict[tuple[str, int], int] = {}

    def ended(self, followed: Sequence[Followed], now: float) -> None:
        """Count deliveries that have ended in the same way."""
        first, last = followed[0][0], followed[-1][0]
        topic, partition = first.topic, first.partition
        _, error = first.peek() or (None, None)
        if error is not None:
            self._ends[topic, NO_PARTITION, type(error).__name__] += len(followed)
            return
        self._ends[topic, partition, NO_ERROR] += len(followed)
        if (offset := last.offset) is not None:
            self._offsets[topic, partition] = offset
        seconds = self._seconds[(topic,)]
        for _, began in followed:
            seconds.observe(now - began)

    def families(self, application: str) -> Iterator[Metric]:
        """Yield them for Prometheus."""
        yield _counter(
            "kafkaesk_publish_messages",
            "Messages that were to be published.",
            ("stream_id", "error"),
            self.attempts,
            application,
        )
        yield histogram(
            "kafkaesk_publish_messages_time",
            "Seconds until a message is buffered.",
            ("stream_id",),
            self.buffered,
            application,
        )
        yield _counter(
            "kafkaesk_published_messages",
            "Messages that were acknowledged, or have failed.",
            ("stream_id", "partition", "error"),
            self._ends,
            application,
        )
        yield histogram(
            "kafkaesk_published_messages_time",
            "Seconds until a message is acknowledged.",
            ("stream_id",),
            self._seconds,
            application,
        )
        offsets = GaugeMetricFamily(
            "kafkaesk_produced_topic_offset",
            "The offset of the last message that was acknowledged.",
            labels=("application", "stream_id", "partition"),
        )
        for (topic, partition), offset in self._offsets.items():
            offsets.add_metric((application, topic, str(partition)), offset)
        yield offsets


class _Consumed:
    """The series of consumed messages."""

    def __init__(self) -> None:
        self.sizes = counts_by_labels(BATCH_SIZES)
        self._ends = Counter[tuple[object, ...]]()
        self._seconds: CountsByLabels = counts_by_labels(SECONDS)
        self._leads: CountsByLabels = counts_by_labels(LEAD_SECONDS)

    async def around(
        self, messages: Sequence[IncomingMessage], group: str, handling: Awaitable[Any]
    ) -> Any:
        """Count and time the handling of messages of one partition."""
        topic, partition = messages[0].topic, messages[0].partition
        place = topic, group, partition
        leads, now = self._leads[place], time.time()
        for message in messages:
            if (written := message.timestamp_ms) >= 0:
                leads.observe(max(0.0, now - written / 1000))
        error, began = NO_ERROR, time.perf_counter()
        try:
            return await handling
        except asyncio.CancelledError:
            error = CANCELLED
            raise
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            self._seconds[place].observe(time.perf_counter() - began)
            self._ends[topic, partition, error, group] += len(messages)

    def families(self, application: str) -> Iterator[Metric]:
        """Yield them for Prometheus."""
        yield _counter(
            "kafkaesk_consumed_messages",
            "Messages that were handled, each attempt.",
            ("stream_id", "partition", "error", "group_id"),
            self._ends,
            application,
        )
        for name, text, series in (
            ("consumed_messages_batch_size", "Messages in a batch of a handler.", self.sizes),
            ("consumed_message_elapsed_time", "Seconds of a handler.", self._seconds),
            ("message_lead_time", "Seconds until a message is handled.", self._leads),
        ):
            yield histogram(f"kafkaesk_{name}", text, PLACE, series, application)


def _counter(
    name: str,
    text: str,
    labels: Sequence[str],
    series: Mapping[tuple[object, ...], int],
    application: str,
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=("application", *labels))
    for values, count in series.items():
        family.add_metric((application, *map(str, values)), count)
    return family

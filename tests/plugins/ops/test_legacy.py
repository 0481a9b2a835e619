"""The metrics of kafkaesk 0.8, under their names, with their types and labels."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse

from kafkaesk_core import Application, InvalidMessageError, RebalanceEvent, TopicPartition
from kafkaesk_ops import OpsPlugin
from kafkaesk_ops.legacy import LegacyGroups
from kafkaesk_testing import eventually

from .test_ops import done_by, port_of, request, service

GROUPS = {
    "kafkaesk_consumed_topic_offset": ("gauge", {"group_id", "partition", "stream_id"}),
    "kafkaesk_consumer_rebalanced": ("counter", {"group_id", "partition", "event"}),
    "kafkaesk_consumer_health": ("gauge", {"group_id"}),
}
"""As in kafkaesk/metrics.py of 0.8.7."""

PUBLISHED = {
    "kafkaesk_publish_messages": ("counter", {"stream_id", "error"}),
    "kafkaesk_publish_messages_time": ("histogram", {"stream_id"}),
    "kafkaesk_published_messages": ("counter", {"stream_id", "partition", "error"}),
    "kafkaesk_published_messages_time": ("histogram", {"stream_id"}),
    "kafkaesk_produced_topic_offset": ("gauge", {"stream_id", "partition"}),
}
CONSUMED = {
    "kafkaesk_consumed_messages": ("counter", {"stream_id", "partition", "error", "group_id"}),
    "kafkaesk_consumed_messages_batch_size": ("histogram", {"stream_id", "group_id", "partition"}),
    "kafkaesk_consumed_message_elapsed_time": ("histogram", {"stream_id", "group_id", "partition"}),
    "kafkaesk_message_lead_time": ("histogram", {"stream_id", "group_id", "partition"}),
}


async def families(ops: OpsPlugin) -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric that a scrape has samples of."""
    _, text = await request(port_of(ops), "/metrics")
    return {
        family.name: (
            family.type,
            {name for sample in family.samples for name in sample.labels} - {"application", "le"},
        )
        for family in parse(text)
        if family.samples
    }


def sample(ops: OpsPlugin, name: str, **labels: Any) -> float | None:
    place = {"application": "", **{key: str(value) for key, value in labels.items()}}
    return ops.registry.get_sample_value(f"kafkaesk_{name}", place)


def subscribe(app: Application) -> None:
    """Two handlers of one group, one of which takes batches and fails at some."""

    @app.subscribe("orders", "billing", on_error="skip")
    async def bill(order: bytes) -> None:
        if order == b"poison":
            raise LookupError("no such customer")

    @app.subscribe("lines", "billing")
    async def count(lines: list[bytes]) -> None: ...


@pytest.mark.parametrize("histograms", [False, True])
async def test_the_old_names_have_their_types_labels_and_values(histograms: bool) -> None:
    app, ops = service(histograms=histograms, legacy_names=True, topic_prefix="shop.")
    app.configure(auto_commit_interval_ms=100)
    app.schema("Order", streams=["checked"])({"type": "object", "required": ["number"]})
    subscribe(app)
    last = {"group_id": "billing", "partition": 0, "stream_id": "shop.orders"}

    async with app:
        for order in (b"fine", b"poison", b"fine"):
            await app.raw_publish("orders", order, partition=0)
        await app.raw_publish("lines", b"1", partition=0)
        with pytest.raises(InvalidMessageError):
            await app.publish("checked", {})
        await app.flush()
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: done_by(app) == 3, within=20)
        await eventually(lambda: sample(ops, "consumed_topic_offset", **last) == 2, within=20)
        found = await families(ops)
        owned = len(app.status().groups[0].partitions)
        assert_values(ops, owned, has_messages=histograms)
        await app.stop()
        await consuming

    assert {name: found[name] for name in GROUPS} == GROUPS
    messages = {**PUBLISHED, **CONSUMED}
    shown = {name: found[name] for name in messages if name in found}
    assert shown == (messages if histograms else {})


def assert_values(ops: OpsPlugin, owned: int, *, has_messages: bool) -> None:
    assert owned >= 2
    assert sample(ops, "consumer_health", group_id="billing") == 1
    if not has_messages:
        return
    orders = {"stream_id": "shop.orders", "group_id": "billing", "partition": 0}
    lines = {**orders, "stream_id": "shop.lines"}
    assert sample(ops, "consumed_messages_total", error="none", **orders) == 2
    assert sample(ops, "consumed_messages_total", error="LookupError", **orders) == 1
    assert sample(ops, "consumed_message_elapsed_time_count", **orders) == 3
    assert sample(ops, "message_lead_time_count", **orders) == 3
    assert sample(ops, "message_lead_time_bucket", le="300.0", **orders) == 3
    assert sample(ops, "consumed_messages_batch_size_count", **orders) is None
    assert sample(ops, "consumed_messages_batch_size_bucket", le="1.0", **lines) == 1
    sent = {"stream_id": "shop.orders"}
    assert sample(ops, "publish_messages_total", error="none", **sent) == 3
    assert sample(ops, "publish_messages_total", error="exception", stream_id="shop.checked") == 1
    assert sample(ops, "publish_messages_time_count", **sent) == 3
    assert sample(ops, "published_messages_total", partition=0, error="none", **sent) == 3
    assert sample(ops, "published_messages_time_bucket", le="10.0", **sent) == 3
    assert sample(ops, "produced_topic_offset", partition=0, **sent) == 2


def test_a_rebalance_counts_once_however_many_subscriptions_are_told() -> None:
    groups, registry = LegacyGroups(Application("embedded://")), CollectorRegistry()
    registry.register(groups)
    partitions = frozenset(TopicPartition(topic, 0) for topic in ("orders", "lines"))
    kinds: tuple[Literal["assigned", "revoked", "lost"], ...] = ("assigned", "revoked", "lost")

    for kind in kinds:
        event = RebalanceEvent(kind, partitions, "billing")
        for _ in range(2):
            tell = groups.partitions_assigned if kind == "assigned" else groups.partitions_revoked
            tell(event)

    counted = {
        event: registry.get_sample_value(
            "kafkaesk_consumer_rebalanced_total",
            {"application": "", "group_id": "billing", "partition": "0", "event": event},
        )
        for event in ("assigned", "revoked")
    }
    assert counted == {"assigned": 2, "revoked": 4}


async def test_without_the_setting_there_are_none_of_the_old_names() -> None:
    app, ops = service(histograms=True)
    subscribe(app)

    async with app:
        await app.raw_publish("orders", b"fine")
        await app.consume_for(1, seconds=20)
        found = await families(ops)

    assert not found.keys() & {*GROUPS, *PUBLISHED, *CONSUMED}

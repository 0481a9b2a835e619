"""`kafkaesk_core.plugin`: what authors of plugins need beside the hooks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from kafkaesk_core import (
    Application,
    Delivery,
    OutgoingMessage,
    PublishCall,
    RecordMetadata,
    TopicPartition,
    hookimpl,
    plugin,
)
from kafkaesk_core.plugin import (
    CountedFailures,
    NoteHandledMessages,
    acknowledged_delivery,
    handled_messages,
)

PARTITION = TopicPartition("orders", 3)
METADATA = RecordMetadata(*PARTITION, PARTITION, 7, 1_700_000_000_000, 0, 0)


def test_all_that_is_exported_exists_and_is_sorted() -> None:
    assert plugin.__all__ == sorted(plugin.__all__, key=lambda name: (name.islower(), name))
    assert all(getattr(plugin, name).__doc__ for name in plugin.__all__)


def test_failures_are_counted_by_kind_and_the_1st_10th_and_100th_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = CountedFailures(logging.getLogger("kafkaesk.audit"), "messages go on without it")

    for _ in range(120):
        failures.note("auditing", ValueError("no room"))
    failures.note("closing")

    assert failures.counts == {"auditing": 120, "closing": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "auditing failed (first failure); messages go on without it",
        "auditing failed (10 failures so far); messages go on without it",
        "auditing failed (100 failures so far); messages go on without it",
        "closing failed (first failure); messages go on without it",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


async def test_an_acknowledged_delivery_answers_as_the_brokers_own() -> None:
    delivery = acknowledged_delivery(METADATA)

    assert delivery.done()
    assert await delivery == METADATA
    assert (delivery.topic, delivery.partition, delivery.offset) == ("orders", 3, 7)


class Elsewhere:
    """Publishes to somewhere else than Kafka."""

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        return acknowledged_delivery(METADATA)


async def test_a_layer_may_answer_a_publish_with_an_acknowledged_delivery() -> None:
    async with Application("embedded://", plugins=[Elsewhere()], entry_points=False) as app:
        metadata = await (await app.raw_publish("orders", b"{}"))

    assert metadata == METADATA


class Audit(NoteHandledMessages):
    """A plugin that wants to know what is being handled, wherever its code runs."""


async def test_what_is_being_handled_is_known_inside_of_a_handler_and_outside_it_is_none() -> None:
    app = Application("embedded://", plugins=[Audit()], entry_points=False)
    seen: list[Any] = []

    @app.subscribe("one", "readers")
    async def one(data: bytes) -> None:
        seen.append(handled_messages())

    @app.subscribe("many", "batches")
    async def many(data: list[bytes]) -> None:
        seen.append(handled_messages())

    async with app:
        await (await app.raw_publish("one", b"a"))
        await (await app.raw_publish("many", b"b"))
        await app.consume_for(2, seconds=20)

    assert handled_messages() is None
    noted: dict[str, Sequence[Any]] = {handled.group: handled.messages for handled in seen}
    assert {group: [m.value for m in messages] for group, messages in noted.items()} == {
        "readers": [b"a"],
        "batches": [b"b"],
    }

"""The shipper alone: a publisher that fails in every way, and what becomes of the lines."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core import (
    Delivery,
    DeliveryFailedError,
    DeliveryUnknownError,
    MessageTooLargeError,
    NotRunningError,
)
from kafkaesk_logging import shipper as shipper_module
from kafkaesk_logging.buffer import Buffer
from kafkaesk_logging.envelope import enveloped
from kafkaesk_logging.losses import Losses
from kafkaesk_logging.settings import QueueOptions
from kafkaesk_logging.shipper import Shipper
from kafkaesk_testing import eventually
from kafkaesk_testing.fakes import PendingDelivery

PARTITION = TopicPartition("logs", 0)


class FakePublisher:
    """Takes lines; `refusals` are raised first, one for each call, None lets a line through."""

    def __init__(self) -> None:
        self.refusals: list[Exception | None] = []
        self.outcomes: list[PendingDelivery] = []
        self.taken: list[str] = []
        self.acknowledges = True

    async def publish_internal(self, stream_id: str, data: bytes, **_: Any) -> Delivery:
        error = self.refusals.pop(0) if self.refusals else None
        if error is not None:
            raise error
        fields = json.loads(data)["data"]
        if fields.get("logger") != "kafkaesk.logging":  # else it is the line about a gap
            self.taken.append(fields["message"])
        outcome = PendingDelivery(PARTITION)
        self.outcomes.append(outcome)
        if self.acknowledges:
            outcome.acknowledge(RecordMetadata(*PARTITION, PARTITION, 7, 0, 0, 0))
        return outcome.delivery


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def shipping(
    publisher: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Buffer, Shipper]]:
    monkeypatch.setattr(shipper_module, "_FIRST_BACKOFF_SECONDS", 0.01)

    def ship(**options: Any) -> tuple[Buffer, Shipper]:
        chosen = QueueOptions(**options)
        losses = Losses(chosen.report_interval)
        buffer = Buffer(chosen, losses.note)
        return buffer, Shipper(publisher, buffer, losses, chosen)

    return ship


def put(buffer: Buffer, shipper: Shipper, *texts: str) -> None:
    for text in texts:
        if buffer.put((enveloped({"message": text, "level": 20}), "logs", None, 0)):
            shipper.wake()


Shipping = Callable[..., tuple[Buffer, Shipper]]


async def test_an_error_of_the_publisher_ends_nothing_and_loses_nothing(
    publisher: FakePublisher, shipping: Shipping, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original's defect 3; why lines wait is told, once."""
    publisher.refusals = [None, RuntimeError("no way"), OSError("none either")]
    buffer, shipper = shipping()

    put(buffer, shipper, "a", "b", "c")
    await eventually(lambda: buffer.stats().delivered == 3)
    await shipper.drain(1)

    assert publisher.taken == ["a", "b", "c"]
    assert buffer.stats().dropped == {}
    (told,) = capsys.readouterr().err.splitlines()
    assert "log records wait: no way" in told


async def test_what_may_have_been_written_is_counted_as_lost_and_not_tried_again(
    publisher: FakePublisher, shipping: Shipping, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original's defect 8."""
    publisher.acknowledges = False
    buffer, shipper = shipping()

    put(buffer, shipper, "a")
    await eventually(lambda: publisher.outcomes)
    publisher.outcomes[0].fail(DeliveryUnknownError("the broker said nothing", topic="logs"))
    await eventually(lambda: buffer.stats().dropped == {"delivery_failed": 1})
    await shipper.drain(1)

    assert publisher.taken == ["a"]
    assert "the broker said nothing" in capsys.readouterr().err


async def test_what_was_certainly_not_written_is_tried_again_in_its_order(
    publisher: FakePublisher, shipping: Shipping
) -> None:
    """The original's defect 8; many failures at once are one reason to pause."""
    publisher.acknowledges = False
    buffer, shipper = shipping()

    put(buffer, shipper, *"abcdefghijkl")
    await eventually(lambda: len(publisher.outcomes) == 12)
    publisher.acknowledges = True
    for outcome in publisher.outcomes[:12]:
        outcome.fail(DeliveryFailedError("no leader", topic="logs"))
    await eventually(lambda: buffer.stats().delivered == 12, within=2)
    await shipper.drain(1)

    assert publisher.taken[12:] == list("abcdefghijkl")


async def test_a_line_that_the_topic_does_not_take_is_cut(
    publisher: FakePublisher, shipping: Shipping
) -> None:
    """Acceptance 18."""
    publisher.refusals = [MessageTooLargeError("too large", topic="logs")]
    buffer, shipper = shipping()

    put(buffer, shipper, "é" * 100_000)
    await eventually(lambda: buffer.is_settled)
    await shipper.drain(1)

    (text,) = publisher.taken
    assert text.startswith("éé")
    assert len(text) < 10_000
    assert buffer.stats().dropped == {}


async def test_a_line_that_is_too_large_even_when_cut_is_lost_alone(
    publisher: FakePublisher, shipping: Shipping, capsys: pytest.CaptureFixture[str]
) -> None:
    """Acceptance 18."""
    publisher.refusals = [MessageTooLargeError("too large", topic="logs"), None]
    publisher.refusals.append(publisher.refusals[0])
    buffer, shipper = shipping()

    put(buffer, shipper, "é" * 100_000, "short")
    await eventually(lambda: buffer.is_settled)
    await shipper.drain(1)

    assert publisher.taken == ["short"]
    assert buffer.stats().dropped == {"too_large": 1}
    assert "too_large 1" in capsys.readouterr().err


async def test_a_line_that_can_never_be_published_does_not_hold_up_the_others(
    publisher: FakePublisher, shipping: Shipping, capsys: pytest.CaptureFixture[str]
) -> None:
    """Acceptance 6."""
    publisher.refusals = [ValueError("timestamp_ms is negative")]
    buffer, shipper = shipping()

    put(buffer, shipper, "a", "b")
    await eventually(lambda: buffer.is_settled)
    await shipper.drain(1)

    assert publisher.taken == ["b"]
    assert buffer.stats().dropped == {"delivery_failed": 1}
    assert "timestamp_ms is negative" in capsys.readouterr().err


async def test_an_application_that_never_opens_does_not_hold_up_its_end(
    publisher: FakePublisher, shipping: Shipping
) -> None:
    publisher.refusals = [NotRunningError("not yet") for _ in range(1000)]
    buffer, shipper = shipping()
    put(buffer, shipper, "a")

    async with asyncio.timeout(2):
        await shipper.drain(60)

    assert buffer.stats().queue_size == 1


async def test_lines_wait_until_the_application_is_open(
    publisher: FakePublisher, shipping: Shipping, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.refusals = [NotRunningError("not yet"), NotRunningError("not yet")]
    buffer, shipper = shipping()

    put(buffer, shipper, "a")
    await eventually(lambda: buffer.stats().delivered == 1)
    await shipper.drain(1)

    assert capsys.readouterr().err == ""


async def test_no_more_than_max_in_flight_wait_for_their_answer(
    publisher: FakePublisher, shipping: Shipping
) -> None:
    publisher.acknowledges = False
    buffer, shipper = shipping(max_in_flight=2)

    put(buffer, shipper, *"abcdef")
    await eventually(lambda: len(publisher.outcomes) == 2)
    most = 0
    while buffer.stats().delivered < 6:
        unanswered = [outcome for outcome in publisher.outcomes if not outcome.delivery.done()]
        most = max(most, len(unanswered))
        for outcome in unanswered[:1]:
            outcome.acknowledge(RecordMetadata(*PARTITION, PARTITION, 7, 0, 0, 0))
        await asyncio.sleep(0)
    await shipper.drain(1)

    assert publisher.taken == list("abcdef")
    assert most == 2


async def test_what_is_not_answered_at_the_end_is_told(
    publisher: FakePublisher, shipping: Shipping, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original's defect 7."""
    publisher.acknowledges = False
    buffer, shipper = shipping()

    put(buffer, shipper, "a", "b")
    await eventually(lambda: len(publisher.outcomes) == 2)
    left = await shipper.drain(0.05)

    assert [json.loads(line)["data"]["message"] for line, *_ in left] == ["a", "b"]
    assert buffer.stats().dropped == {"unacknowledged": 2}
    assert "unacknowledged 2" in capsys.readouterr().err


TENANT: ContextVar[str] = ContextVar("tenant", default="none")


async def test_the_shipper_knows_nothing_of_the_context_it_was_started_in(
    shipping: Shipping, publisher: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original's defect 9."""
    tenants: list[str] = []
    publish = publisher.publish_internal

    async def noting(*arguments: Any, **keywords: Any) -> Delivery:
        tenants.append(TENANT.get())
        return await publish(*arguments, **keywords)

    monkeypatch.setattr(publisher, "publish_internal", noting)
    token = TENANT.set("a")
    buffer, shipper = shipping()
    put(buffer, shipper, "first")
    await eventually(lambda: buffer.stats().delivered == 1)
    TENANT.reset(token)
    TENANT.set("b")
    put(buffer, shipper, "second")
    await shipper.drain(1)

    assert tenants == ["none", "none"]


@pytest.fixture
def made_on_loop(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many tasks, futures and timers event loops were asked for."""
    counts: Counter[str] = Counter()

    def count(name: str) -> None:
        original = getattr(asyncio.SelectorEventLoop, name)

        def counting(self: Any, *arguments: Any, **keywords: Any) -> Any:
            counts[name] += 1
            return original(self, *arguments, **keywords)

        monkeypatch.setattr(asyncio.SelectorEventLoop, name, counting)

    for name in ("create_task", "create_future", "call_at", "call_soon_threadsafe"):
        count(name)
    return counts


async def test_a_line_costs_no_task_no_future_and_no_timer(
    publisher: FakePublisher, shipping: Shipping, made_on_loop: Counter[str]
) -> None:
    """The original's defect 23."""
    buffer, shipper = shipping()
    await asyncio.sleep(0)
    made_on_loop.clear()

    put(buffer, shipper, *map(str, range(5000)))
    signals = dict(made_on_loop)
    await shipper.drain(5)

    assert buffer.stats().delivered == 5000
    assert signals == {"call_soon_threadsafe": 1}
    assert sum(made_on_loop.values()) < 100

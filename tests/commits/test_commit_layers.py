"""Commits go through the layers of each subscription, which do not concern the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.consumer.commits import OffsetCommitter
from kafkaesk_core.consumer.dispatch import HandlerPipeline
from kafkaesk_core.consumer.error_policy import ErrorPolicy
from kafkaesk_core.consumer.handling import MessageHandling
from kafkaesk_core.errors import CommitError
from kafkaesk_core.handlers import Binding
from kafkaesk_core.hooks import hookimpl
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.router import Subscription
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.settings import Settings
from kafkaesk_testing import eventually

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


class FailsForA:
    """A layer that has trouble with one of the subscriptions."""

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any, subscription: Subscription) -> None:
        if subscription.topics == ["a"]:
            raise RuntimeError("trouble with a")
        await call_next(offsets)


def pipeline_of(stream: str, tracker: OffsetTracker[TopicPartition]) -> HandlerPipeline:
    async def handler(data: bytes) -> None: ...

    async def handle(message: Any) -> None: ...

    subscription = Subscription(stream, handler, "group", topics=[stream])
    failures = ErrorPolicy(subscription, report_failure=lambda _: None, find_raiser=lambda _: None)
    handling = MessageHandling(subscription, Binding(handle), tracker, failures, lambda *_: None)
    return HandlerPipeline(handling, Lanes(handling.run), Settings())


class Group:
    """Two subscriptions of one group, each with a record that is done."""

    def __init__(self, *plugins: object) -> None:
        self.tracker: OffsetTracker[TopicPartition] = OffsetTracker()
        self.stored: list[dict[TopicPartition, int]] = []
        self.refused: set[TopicPartition] = set()
        pipelines = [pipeline_of(stream, self.tracker) for stream in ("a", "b")]
        subscriptions = [pipeline.handling.subscription for pipeline in pipelines]
        self.commits = OffsetCommitter(
            self.tracker,
            self._send,
            group="group",
            timeout=1.0,
            subscription_of=dict(zip(("a", "b"), subscriptions, strict=True)).__getitem__,
        )
        registry: Any = Plugins()
        for plugin in plugins:
            registry.register(plugin)
        app: Any = None
        self.commits.compile(registry, app, subscriptions)
        self.tracker.assign([A, B])
        for partition in (A, B):
            self.finish(partition, 0)
        self.commits.resume()

    def finish(self, partition: TopicPartition, offset: int) -> None:
        epoch = self.tracker.register(partition, [offset], now=0.0)
        self.tracker.finish(partition, epoch, offset)

    async def _send(self, offsets: Mapping[TopicPartition, int], timeout: float) -> CommitResult:
        refused = self.refused & set(offsets)
        self.stored.append({tp: offset for tp, offset in offsets.items() if tp not in refused})
        return CommitResult(stored=set(self.stored[-1]), refused=dict.fromkeys(refused, "refused"))


@pytest.mark.rule_8
async def test_a_layer_that_fails_does_not_keep_other_subscriptions_from_being_committed() -> None:
    """Else all of theirs would come again after each stop."""
    group = Group(FailsForA())

    with pytest.raises(
        CommitError,
        match=r"group group: plugin 'fails-for-a' failed in wrap_commit: .* trouble with a",
    ):
        await group.commits.commit("stop")

    assert group.stored == [{B: 1}]
    assert group.tracker.propose() == {A: 1}


@pytest.mark.k69
async def test_a_refused_topic_does_not_keep_other_subscriptions_from_being_committed() -> None:
    """The broker refuses by topic."""
    group = Group()
    group.refused = {A}

    with pytest.raises(CommitError, match=r"a\[0\] refused"):
        await group.commits.commit("stop")

    assert group.stored == [{}, {B: 1}]
    assert group.commits.last_error == "refused: a[0] refused", "and health() says so"


class HangsForA:
    """A layer that waits for something that never comes, for one of the subscriptions."""

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any, subscription: Subscription) -> None:
        if subscription.topics == ["a"]:
            await asyncio.Event().wait()
        await call_next(offsets)


@pytest.mark.rule_8
@pytest.mark.parametrize("reason", ["interval", "stop"])
async def test_a_layer_that_hangs_does_not_keep_other_subscriptions_from_being_committed(
    reason: Any,
) -> None:
    group = Group(HangsForA())
    group.commits._timeout = 0.05

    with pytest.raises(CommitError, match=r"not finished within 0\.05s for handler .*handler"):
        await group.commits.commit(reason)

    assert group.stored == [{B: 1}]
    assert group.tracker.propose() == {A: 1}


class TimesOut:
    """A layer whose own work has a time limit."""

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any) -> None:
        raise TimeoutError("the database did not answer")


@pytest.mark.d4
async def test_a_time_limit_of_a_layers_own_is_not_taken_for_that_of_the_commit() -> None:
    """It said "not finished within 1s", and not whose it was."""
    group = Group(TimesOut())

    with pytest.raises(CommitError, match=r"plugin 'times-out' failed .* database did not answer"):
        await group.commits.commit("manual", topic="a")


async def test_a_handler_that_commits_by_hand_does_not_wait_for_another_ones_layers() -> None:
    group = Group(HangsForA())
    hanging = asyncio.create_task(group.commits.commit("interval"))
    await eventually(lambda: group.stored == [{B: 1}])
    group.finish(B, 1)

    await group.commits.commit("manual", topic="b")

    assert group.stored == [{B: 1}, {B: 2}]
    assert not hanging.done()
    hanging.cancel()
    await asyncio.wait([hanging])
    assert hanging.cancelled()


class Fails:
    """A layer that has trouble with each subscription, each its own."""

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any, subscription: Subscription) -> None:
        raise RuntimeError(f"trouble with {subscription.streams[0]}")


async def test_the_failures_of_all_subscriptions_are_told() -> None:
    """Only the first one was."""
    group = Group(Fails())

    with pytest.raises(CommitError, match=r"^group group: .*trouble with a; .*trouble with b$"):
        await group.commits.commit("interval")

    assert "trouble with a" in (group.commits.last_error or "")
    assert "trouble with b" in (group.commits.last_error or "")


async def test_a_success_of_one_subscription_does_not_hide_the_failure_of_another() -> None:
    group = Group(FailsForA())
    with pytest.raises(CommitError):
        await group.commits.commit("interval")
    group.finish(B, 1)

    await group.commits.commit("manual", topic="b")

    assert group.stored[-1] == {B: 2}
    assert "trouble with a" in (group.commits.last_error or "")
    group.commits.resume()  # other partitions: that trouble may have gone with them
    assert group.commits.last_error is None


class AwaitsWhatIsCancelled:
    """A layer whose own work is cancelled, as by a pool that is closed."""

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any) -> None:
        work = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(work.cancel)
        await work


async def test_what_a_layer_awaits_may_be_cancelled_and_only_that_commit_fails() -> None:
    """The loop that commits would have ended, without a word."""
    group = Group(AwaitsWhatIsCancelled())

    with pytest.raises(CommitError, match="awaited was cancelled"):
        await group.commits.commit("interval")


async def test_one_commit_is_in_flight_however_many_subscriptions_commit() -> None:
    """Two could be applied in reverse order."""
    group, most = Group(), 0
    store, in_flight = group.commits._send, 0

    async def send(*work: Any) -> CommitResult:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0)
        in_flight -= 1
        return await store(*work)

    group.commits._send = send
    await group.commits.commit("interval")

    assert group.stored == [{A: 1}, {B: 1}]
    assert most == 1

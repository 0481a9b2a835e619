"""Commits go through the layers of each subscription, which do not concern the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.consumer.commits import OffsetCommitter
from kafkaesk_core.consumer.dispatch import HandlerPipeline
from kafkaesk_core.consumer.handling import ErrorPolicy, MessageHandling
from kafkaesk_core.errors import CommitError
from kafkaesk_core.handlers import Binding
from kafkaesk_core.hooks import hookimpl
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.router import Subscription
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.settings import Settings

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
            epoch = self.tracker.register(partition, [0], now=0.0)
            self.tracker.finish(partition, epoch, 0)
        self.commits.resume()

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

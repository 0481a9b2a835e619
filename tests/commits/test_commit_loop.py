"""When a group commits by itself (rules 5, 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.consumer.commits import CommitLoop, OffsetCommitter
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.router import Subscription
from kafkaesk_testing import eventually

A = TopicPartition("topic", 0)


async def handle(data: bytes) -> None: ...


SUBSCRIPTION = Subscription("topic", handle, "group", topics=["topic"])


class Member:
    """In the group, or not at the moment; has read as far as `read` says."""

    is_stable = False

    def __init__(self) -> None:
        self.looks = 0
        self.read: dict[TopicPartition, tuple[int, int]] = {}


class Group:
    """One record done, and nothing committed."""

    def __init__(self, member: Member, *, interval: float, only_gaps: bool = False) -> None:
        self.sent: list[dict[TopicPartition, int]] = []
        self.looks = 0
        self.member = member
        self.tracker: OffsetTracker[TopicPartition] = OffsetTracker()
        self.tracker.assign([A])
        self.tracker.finish(A, self.tracker.register(A, [4], now=0.0), 4)
        self.commits = OffsetCommitter(
            self.tracker,
            self._send,
            group="group",
            timeout=1.0,
            subscription_of=lambda _: SUBSCRIPTION,
            progress=lambda _: self.member.read,
        )
        self.commits.resume()
        self.loop = CommitLoop(self.commits, self._look, interval=interval, only_gaps=only_gaps)

    def _look(self) -> Any:
        self.looks += 1
        return self.member

    async def _send(self, offsets: Mapping[TopicPartition, int], _: float) -> CommitResult:
        self.sent.append(dict(offsets))
        return CommitResult(stored=set(offsets))

    async def run_until(self, condition: Any) -> None:
        running = asyncio.create_task(self.loop.run())
        await eventually(condition)
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.rule_5
async def test_nothing_is_committed_while_the_member_is_not_in_the_group() -> None:
    """The answer would be that others have the partitions, and what runs would be given up."""
    group = Group(Member(), interval=0.001)

    await group.run_until(lambda: group.looks > 3)
    sent_outside = list(group.sent)
    group.member.is_stable = True
    await group.run_until(lambda: group.sent)

    assert sent_outside == []
    assert group.sent == [{A: 5}]


@pytest.mark.rule_9
async def test_what_is_owed_is_committed_before_the_interval_is_over() -> None:
    member = Member()
    member.is_stable = True
    group = Group(member, interval=3600)

    group.loop.hurry()
    await group.run_until(lambda: group.sent)

    assert group.sent == [{A: 5}]


@pytest.mark.rule_17
async def test_where_handlers_commit_only_gaps_are_committed() -> None:
    member = Member()
    member.is_stable = True
    group = Group(member, interval=0.001, only_gaps=True)

    await group.run_until(lambda: group.looks > 3)
    sent_before = list(group.sent)
    await group.commits.commit("manual")
    member.read = {A: (4, 9)}
    await group.run_until(lambda: len(group.sent) > 1)

    assert sent_before == []
    assert group.sent == [{A: 5}, {A: 9}]

"""Who a member is in its group, and until when it may commit as that (rule 5)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.kafka.commits import CommitResult, MemberIdentity
from kafkaesk_core.kafka.consumer import GroupMember, Listener

A = TopicPartition("topic", 0)


class Commits:
    """Keeps what is sent, and as whom."""

    def __init__(self) -> None:
        self.sent: list[MemberIdentity] = []

    def connect(self, node: int | None) -> None: ...

    async def send(self, membership: MemberIdentity, offsets: Any, timeout: float) -> CommitResult:
        self.sent.append(membership)
        return CommitResult(stored=set(offsets))


class Handler:
    """Commits what it has when its partitions are revoked, and may fail then."""

    def __init__(self, member: GroupMember) -> None:
        self.member = member
        self.error: Exception | None = None
        self.is_lost: list[bool] = []

    async def revoked(self, partitions: frozenset[TopicPartition], *, is_lost: bool) -> None:
        self.is_lost.append(is_lost)
        await self.member.commit({A: 1}, 1.0)
        if self.error is not None:
            raise self.error

    def assigned(self, partitions: frozenset[TopicPartition]) -> None: ...


def given() -> tuple[Any, Commits, Handler, Listener, Any]:
    member: Any = GroupMember(["nowhere:1"], "group", {})
    coordinator = SimpleNamespace(generation=1, member_id="me", coordinator_id=1)
    member._consumer = SimpleNamespace(_coordinator=coordinator)
    member._commits = commits = Commits()
    handler = Handler(member)
    return member, commits, handler, Listener(member, handler), coordinator


@pytest.mark.rule_5
@pytest.mark.parametrize("error", [None, RuntimeError("the handover failed")])
async def test_after_a_revocation_nothing_is_committed_until_the_next_assignment(
    error: Exception | None,
) -> None:
    """aiokafka keeps the generation until it has joined again: the broker would take a commit."""
    member, commits, handler, listener, _ = given()
    handler.error = error
    await listener.on_partitions_assigned([A])
    assert member.is_joined

    await listener.on_partitions_revoked([A])
    late = await member.commit({A: 2}, 1.0)

    assert handler.is_lost == [False]
    assert commits.sent == [MemberIdentity(1, "me")], "in the handover"
    assert late.is_lost
    assert not member.is_joined


@pytest.mark.rule_18
async def test_a_member_of_another_generation_has_lost_its_partitions() -> None:
    member, commits, handler, listener, coordinator = given()
    await listener.on_partitions_assigned([A])
    coordinator.generation = -1

    await listener.on_partitions_revoked([A])

    assert handler.is_lost == [True]
    assert commits.sent == []
    coordinator.generation = 3
    await listener.on_partitions_assigned([A])
    await member.commit({A: 2}, 1.0)
    assert commits.sent == [MemberIdentity(3, "me")]

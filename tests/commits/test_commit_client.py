"""Commits as requests of our own, against a client that does what the test says."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.kafka.commits import CommitClient, MemberIdentity

ME = MemberIdentity(generation=3, member_id="me")
A, B = TopicPartition("topic", 0), TopicPartition("topic", 1)


class Client:
    """Connects when it is told to; notes what happened."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.connected: list[int] = []
        self.answers = asyncio.Event()

    async def ready(self, node: int, *, group: object) -> bool:
        self.asked.append(node)
        await self.answers.wait()
        self.connected.append(node)
        return True


def commits_of(client: Client) -> CommitClient:
    untyped: Any = client
    return CommitClient(untyped, "group")


@pytest.mark.rule_35
async def test_nothing_connects_after_the_end() -> None:
    """An assignment may arrive while the member stops, after the client has closed what it had."""
    client = Client()
    commits = commits_of(client)
    commits.connect(1)
    await asyncio.sleep(0)

    await commits.stop_connecting()
    commits.connect(2)
    client.answers.set()
    await asyncio.sleep(0)

    assert client.asked == [1]
    assert client.connected == []


async def test_a_coordinator_is_connected_to_once() -> None:
    client = Client()
    commits = commits_of(client)
    client.answers.set()

    for node in (1, 1, 2, None):
        commits.connect(node)
    await asyncio.sleep(0.01)

    assert client.connected == [1, 2]
    await commits.stop_connecting()


@pytest.mark.rule_35
async def test_no_connection_to_a_coordinator_before_the_last_one_stays_in_the_making() -> None:
    """The connection to the one before would outlive the client: nobody would close it."""
    client = Client()
    commits = commits_of(client)
    commits.connect(1)
    await asyncio.sleep(0)
    commits.connect(2)
    await asyncio.sleep(0)

    await commits.stop_connecting()
    client.answers.set()
    await asyncio.sleep(0.01)

    assert client.asked == [1, 2]
    assert client.connected == []


class Coordinator:
    """Answers a commit with these codes by partition, one after the other; then stores."""

    def __init__(self, **codes: list[int]) -> None:
        self._codes = codes
        self.lookups = 0
        self.sent: list[list[int]] = []

    async def coordinator_lookup(self, kind: object, group: str) -> int:
        self.lookups += 1
        return 1

    async def send(self, node: int, request: Any, *, group: object) -> Any:
        numbers = [number for _, listed in request._topics for number, *_ in listed]
        self.sent.append(numbers)
        answers = [(number, self._code(number)) for number in numbers]
        return SimpleNamespace(topics=[("topic", answers)])

    def _code(self, number: int) -> int:
        codes = self._codes.get(f"p{number}")
        return codes.pop(0) if codes else 0


@pytest.mark.rule_6
@pytest.mark.f9
@pytest.mark.parametrize("code", [7, 14, 15, 16])
async def test_a_slow_or_moving_coordinator_is_asked_again(code: int) -> None:
    """Timed out, loading, not available, not the coordinator: only what was not stored."""
    coordinator: Any = Coordinator(p0=[code, code])
    commits = CommitClient(coordinator, "group")

    result = await commits.send(ME, {A: 5, B: 7}, timeout=10)

    assert result.stored == {A, B}
    assert result.refused == {}
    assert coordinator.sent == [[0, 1], [0], [0]]
    assert coordinator.lookups == 3, "the first time, and before each further attempt"


@pytest.mark.rule_5
@pytest.mark.f8
@pytest.mark.parametrize("code", [22, 25, 82])
async def test_a_membership_that_is_over_is_not_asked_again(code: int) -> None:
    coordinator: Any = Coordinator(p0=[code])
    commits = CommitClient(coordinator, "group")

    result = await commits.send(ME, {A: 5}, timeout=10)

    assert result.is_lost
    assert result.stored == set()
    assert coordinator.sent == [[0]]

"""Commits as requests of our own, against a client that does what the test says."""

from __future__ import annotations

import asyncio
from typing import Any

from kafkaesk_core.kafka.offset_commits import OffsetCommits


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


def commits_of(client: Client) -> OffsetCommits:
    untyped: Any = client
    return OffsetCommits(untyped, "group")


async def test_rule_35_nothing_connects_after_the_end() -> None:
    """An assignment may arrive while the member stops, after the client has closed what it had."""
    client = Client()
    commits = commits_of(client)
    commits.connect(1)
    await asyncio.sleep(0)

    await commits.close()
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
    await commits.close()


async def test_rule_35_no_connection_to_a_coordinator_before_the_last_one_stays_in_the_making() -> (
    None
):
    """The connection to the one before would outlive the client: nobody would close it."""
    client = Client()
    commits = commits_of(client)
    commits.connect(1)
    await asyncio.sleep(0)
    commits.connect(2)
    await asyncio.sleep(0)

    await commits.close()
    client.answers.set()
    await asyncio.sleep(0.01)

    assert client.asked == [1, 2]
    assert client.connected == []

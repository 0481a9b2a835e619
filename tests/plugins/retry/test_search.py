"""Few calls find the messages that a batch fails of, and nothing is handled twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from math import ceil, log2

import pytest
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application, BatchFailure, IncomingMessage, Skip
from kafkaesk_retry import RetryPlugin, RetrySettings
from kafkaesk_retry.search import MOST_CALLS, Search
from kafkaesk_testing import eventually


def batch(size: int) -> list[IncomingMessage]:
    return [
        IncomingMessage(
            ConsumerRecord("t", 0, offset, 0, 0, None, b"", None, -1, 0, ()), stream="t"
        )
        for offset in range(size)
    ]


class Handler:
    """Fails each call that has one of the poison offsets."""

    def __init__(self, poison: Sequence[int]) -> None:
        self.poison = set(poison)
        self.calls: list[list[int]] = []
        self.done: list[int] = []

    async def __call__(self, messages: Sequence[IncomingMessage]) -> None:
        offsets = [message.offset for message in messages]
        self.calls.append(offsets)
        if self.poison.intersection(offsets):
            raise ValueError("poison")
        self.done += offsets


@pytest.mark.parametrize("poison", [[0], [499], [250], [0, 1, 2], [0, 250, 499], [497, 498, 499]])
async def test_each_failing_message_is_found_and_the_others_are_handled_once(
    poison: list[int],
) -> None:
    handler, messages = Handler(poison), batch(500)

    search = Search(handler)
    await search.run(messages)

    assert [message.offset for message in search.failing] == poison
    assert handler.done == [n for n in range(500) if n not in poison], "once, and in order"
    assert len(handler.calls) <= len(poison) * (ceil(log2(500)) + 1) <= MOST_CALLS


async def test_it_finds_them_wherever_they_are() -> None:
    chance = random.Random(7)
    for _ in range(200):
        size = chance.randint(1, 60)
        poison = sorted(chance.sample(range(size), chance.randint(1, min(size, 5))))
        handler = Handler(poison)

        search = Search(handler)
        await search.run(batch(size))

        found = [message.offset for message in [*search.failing, *search.untried]]
        assert sorted([*found, *handler.done]) == list(range(size))


async def test_where_all_fail_the_rest_is_left_after_a_limited_number_of_calls() -> None:
    handler = Handler(range(500))

    search = Search(handler)
    await search.run(batch(500))

    assert len(handler.calls) == MOST_CALLS
    assert len(search.failing) + len(search.untried) == 500


async def test_what_a_part_decides_itself_is_kept() -> None:
    async def call(messages: Sequence[IncomingMessage]) -> None:
        by_offset = {message.offset: message for message in messages}
        if len(messages) == 1 and 1 in by_offset:
            raise Skip("not mine")
        if 1 in by_offset:
            raise ValueError("one of them")
        if 3 in by_offset:
            raise BatchFailure({by_offset[3]: KeyError("third")})

    search = Search(call)
    await search.run(batch(4))

    kinds = {message.offset: type(error) for message, error in search.failing.items()}
    assert kinds == {1: Skip, 3: KeyError}


async def test_a_failure_of_the_moment_is_nobodys() -> None:
    calls = []

    async def call(messages: Sequence[IncomingMessage]) -> None:
        calls.append(len(messages))

    search = Search(call)
    await search.run(batch(8))

    assert (search.failing, search.untried) == ({}, [])
    assert calls == [4, 2, 1, 1]


async def test_what_a_part_awaited_may_be_cancelled_and_its_message_dies_alone() -> None:
    """It stopped the application, and what the other parts had done was done again."""
    plugin, done = RetryPlugin(RetrySettings(attempts=2, first=0.01)), list[bytes]()
    app = Application("embedded://", entry_points=False, plugins=[plugin], partitions=1)

    @app.subscribe("in", "g", batch_timeout=1)
    async def handle(data: list[bytes]) -> None:
        if b"bad" in data:
            work = asyncio.ensure_future(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(work.cancel)
            await work
        done.extend(data)

    async with app:
        for value in (b"a", b"bad", b"b", b"c"):
            await app.raw_publish("in", value)
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: consuming.done() or len(done) == 3, within=20)
        await app.stop()
        await consuming

    assert done == [b"a", b"b", b"c"]
    assert plugin.counts["dead"] == 1


async def test_while_parts_are_handled_a_shutdown_lets_nothing_die() -> None:
    """It went on with the other parts, and wrote dead letters of what others handle again."""
    plugin, calls = RetryPlugin(RetrySettings(attempts=1)), list[list[bytes]]()
    app = Application("embedded://", entry_points=False, plugins=[plugin], partitions=1)

    @app.subscribe("in", "g", batch_timeout=1, drain_timeout=0.1)
    async def handle(data: list[bytes]) -> None:
        calls.append(data)
        if len(data) > 1:
            raise ValueError("one of them")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise RuntimeError("the pool is closed") from None

    async with app:
        for value in (b"a", b"b"):
            await app.raw_publish("in", value)
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: [b"a"] in calls, within=20)
        await app.stop()
        await consuming

    assert plugin.counts["dead"] == 0
    assert calls == [[b"a", b"b"], [b"a"]]

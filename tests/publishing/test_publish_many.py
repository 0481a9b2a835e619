"""publish_many: order, bounded memory, failures; on the embedded broker."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import Application, DeliveryError, InvalidMessageError
from kafkaesk_testing import EmbeddedBroker


class Content(BaseModel):
    number: int


@pytest.fixture
def app() -> Iterator[Application]:
    with EmbeddedBroker(topics={"content": 3}) as broker:
        settings = dict(broker.consumer_settings)
        app = Application(broker.servers, entry_points=False, kafka_settings=settings)
        app.schema("Content", version=1)(Content)
        yield app


async def consumed(app: Application, count: int) -> list[tuple[bytes | None, int]]:
    found: list[tuple[bytes | None, int]] = []

    @app.subscribe("content", group="group")
    async def handle(data: Content, record: Any) -> None:
        found.append((record.key, data.number))

    await app.consume_for(count, seconds=20)
    return found


async def test_all_are_acknowledged_and_those_of_a_key_in_their_order(app: Application) -> None:
    async with app:
        numbers = (Content(number=n) for n in range(1000))
        assert (
            await app.publish_many("content", numbers, key=lambda one: b"%d" % (one.number % 7))
            == 1000
        )
        found = await consumed(app, 1000)

    for key in {key for key, _ in found}:
        own = [number for found_key, number in found if found_key == key]
        assert own == list(range(own[0], 1000, 7))
    assert sorted(number for _, number in found) == list(range(1000))


async def test_it_takes_from_an_async_iterable_and_sends_its_headers(app: Application) -> None:
    headers: list[Any] = []

    async def numbers() -> AsyncIterator[Content]:
        for number in range(5):
            yield Content(number=number)

    @app.subscribe("content", group="headers")
    async def handle(data: Content, record: Any) -> None:
        headers.append(record.headers)

    async with app:
        assert await app.publish_many("content", numbers(), headers=[("a", b"b")]) == 5
        await app.consume_for(5, seconds=20)

    assert headers == [(("a", b"b"),)] * 5


async def test_nothing_to_publish_is_no_error(app: Application) -> None:
    async with app:
        assert await app.publish_many("content", []) == 0


@pytest.mark.parametrize("one", [Content(number=1), {"number": 1}, "number", b"number"])
async def test_one_message_is_not_taken_for_several(app: Application, one: Any) -> None:
    """All of them can be iterated: over fields, keys, letters."""
    async with app:
        with pytest.raises(InvalidMessageError, match="give it an iterable of messages"):
            await app.publish_many("content", one)


@pytest.mark.rule_39
async def test_an_endless_source_is_taken_from_as_the_send_buffer_has_room() -> None:
    taken = 0
    most_ahead = 0

    def source(app: Application) -> Iterator[Content]:
        nonlocal taken, most_ahead
        for number in itertools.count():
            if number == 3000:
                return
            taken += 1
            most_ahead = max(most_ahead, taken - app.status().published["acked"])
            yield Content(number=number)

    with EmbeddedBroker(topics={"content": 1}) as broker:
        app = Application(
            broker.servers,
            entry_points=False,
            send_buffer_bytes=20_000,
            kafka_settings={"max_request_size": 10_000},
        )
        app.schema("Content", version=1)(Content)
        async with app:
            assert await app.publish_many("content", source(app)) == 3000

    assert most_ahead < 300


async def test_what_fails_is_raised_and_what_came_before_is_published(app: Application) -> None:
    async with app:
        bad = Content.model_construct(number="x")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(InvalidMessageError, match="number"):
            await app.publish_many("content", [Content(number=1), bad, Content(number=2)])
        found = await consumed(app, 1)

    assert [number for _, number in found] == [1]


async def test_a_source_that_fails_has_published_what_it_gave_before(app: Application) -> None:
    def source() -> Iterator[Content]:
        yield Content(number=1)
        yield Content(number=2)
        raise LookupError("no more")

    async with app:
        with pytest.raises(LookupError, match="no more"):
            await app.publish_many("content", source())
        found = await consumed(app, 2)

    assert sorted(number for _, number in found) == [1, 2]


async def test_a_delivery_that_fails_is_raised_once_it_is_known() -> None:
    with EmbeddedBroker(topics={"content": 1}) as broker:
        app = Application(
            broker.servers,
            entry_points=False,
            delivery_timeout=2.0,
            kafka_settings={"request_timeout_ms": 1000},
        )
        app.schema("Content", version=1)(Content)
        async with app:
            await app.publish_and_wait("content", Content(number=0))
            broker.set_leader("content", 0, -1)
            with pytest.raises(DeliveryError, match="10 messages to content"):
                await app.publish_many("content", (Content(number=n) for n in range(10)))
            broker.set_leader("content", 0, 1)

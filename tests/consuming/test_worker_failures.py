"""What nothing expects of a handler stops the application: no partition stands still unnoticed."""

from __future__ import annotations

import asyncio

import pytest

from kafkaesk_core import Application, HandlerError


class Outcome(BaseException):
    """As test frameworks raise it, to be caught by no one else."""


class Unspeakable(Exception):
    """An error that cannot tell what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.d5
@pytest.mark.parametrize(
    ("error", "raised"), [(Outcome, Outcome), (Unspeakable, HandlerError)], ids=lambda e: e.__name__
)
@pytest.mark.parametrize("is_batch", [False, True])
async def test_a_failure_that_cannot_be_handled_stops_the_application(
    error: type[BaseException], raised: type[BaseException], is_batch: bool
) -> None:
    app = Application("embedded://")
    calls = []

    async def one(data: bytes) -> None:
        calls.append(1)
        raise error

    async def several(data: list[bytes]) -> None:
        calls.append(1)
        raise error

    app.subscribe("orders", "group")(several if is_batch else one)
    async with app:
        await (await app.raw_publish("orders", b"an order"))

        with pytest.raises(raised):
            await asyncio.wait_for(app.consume_forever(), 5)

    assert calls == [1]


async def test_a_handler_that_cancels_its_own_task_stops_the_application() -> None:
    app = Application("embedded://")

    @app.subscribe("orders", "group")
    async def handler(data: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with app:
        await (await app.raw_publish("orders", b"an order"))

        with pytest.raises(RuntimeError, match="its task was cancelled, and not by us"):
            await asyncio.wait_for(app.consume_forever(), 5)

"""The fixture of an application on embedded://, and what a wrong combination says."""

from __future__ import annotations

import asyncio

import pytest

from kafkaesk_core import Application, TopicError
from kafkaesk_testing import EmbeddedBroker


async def test_the_fixture_runs_an_application_with_schemas_and_streams(
    embedded_app: Application,
) -> None:
    handled: list[object] = []
    embedded_app.schema("Order", streams=["orders"])({"type": "object"})

    @embedded_app.subscribe("orders", "billing")
    async def bill(order: object) -> None:
        handled.append(order)

    async with embedded_app:
        await embedded_app.publish("orders", {"number": 7}, schema="Order:1")
        await embedded_app.consume_for(1, seconds=20)

    assert len(handled) == 1


async def test_an_application_with_the_addresses_of_an_embedded_broker_is_told_at_once(
    embedded_kafka: EmbeddedBroker,
) -> None:
    app = Application(embedded_kafka.servers, entry_points=False)
    app.schema("Order", streams=["orders"])({"type": "object"})

    told = r"topic orders .*embedded_app, Application.*, or the address of .* embedded://HOST:PORT"
    with pytest.raises(TopicError, match=told):
        async with asyncio.timeout(10):
            await app.initialize()

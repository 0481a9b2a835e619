"""A producer that the brokers refuse to go on with, scripted by the embedded broker (F40)."""

from __future__ import annotations

import asyncio

import pytest

from kafkaesk_core import Application, DeliveryUnknownError
from kafkaesk_testing import ApiKey, EmbeddedBroker

LOST_SEQUENCE, FENCED, UNKNOWN_PRODUCER = 45, 47, 59


@pytest.mark.f40
@pytest.mark.rule_37
@pytest.mark.parametrize("code", [LOST_SEQUENCE, FENCED, UNKNOWN_PRODUCER])
async def test_a_producer_that_is_refused_is_replaced_and_every_outcome_is_told(
    code: int,
) -> None:
    """What was under way is delivered or reported, and publishing goes on."""
    with EmbeddedBroker(topics={"content": 1}) as broker:
        async with Application(broker.servers, entry_points=False) as app:
            await (await app.raw_publish("content", b"first"))
            broker.push_errors(ApiKey.PRODUCE, code)

            deliveries = [await app.raw_publish("content", b"%d" % n) for n in range(50)]
            outcomes = await asyncio.gather(*deliveries, return_exceptions=True)
            after = await (await app.raw_publish("content", b"after"))

            acked = [one for one in outcomes if not isinstance(one, BaseException)]
            unknown = [one for one in outcomes if isinstance(one, DeliveryUnknownError)]
            assert len(acked) + len(unknown) == 50
            offsets = [one.offset for one in acked]
            assert offsets == sorted(offsets)
            assert after.offset >= len(acked)
            assert app.status().published["replaced"] <= 1
            assert app.status().published["failed"] == 0

"""The examples of other forms on the wire, handled without Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from examples import claim_check, outbox


async def test_the_claim_check_keeps_large_messages_elsewhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "claim_check")
    app = claim_check.app
    app.configure("embedded://")

    async with app:
        await app.consume_for(1, seconds=30)

    assert "5000 characters, 16 bytes on the wire" in caplog.text
    held: Any = app.plugins.get("claim-check")
    assert [len(value) for value in held.store.values()] == [5040]


async def test_the_outbox_sends_what_was_committed_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = outbox.app
    app.configure("embedded://")
    database = outbox.outbox.database

    async with app:
        await app.consume_for(1, seconds=30)
        database.execute("BEGIN")
        headers = [("tenant", b"blue"), ("none", None)]
        delivery = await app.publish("orders.placed", outbox.Order(number=3), b"k", headers)
        was_done = delivery.done()
        database.execute("COMMIT")
        await outbox.outbox.send()
        metadata = await delivery

    assert capsys.readouterr().out == "order 2 was committed and sent\n"
    assert (was_done, metadata.topic) == (False, "orders.placed")
    assert database.execute("SELECT count(*) FROM outbox").fetchone() == (0,)

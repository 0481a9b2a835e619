"""The examples of other forms on the wire, handled without Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from examples import claim_check


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

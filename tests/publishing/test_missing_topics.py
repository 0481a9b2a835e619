"""A topic that does not exist is waited for, and that is told: in the log once, in the health."""

from __future__ import annotations

import pytest

from kafkaesk_core import Application, Router, hookimpl
from kafkaesk_testing import consuming, eventually


class OwnStream:
    """A plugin that reads a stream of its own: it sees to it that there is one, or needs none."""

    claimed_streams = frozenset({"own.*"})

    @hookimpl
    def declare(self, router: Router) -> None:
        router.subscribe("own.replay", "billing")(handle)


async def handle(data: bytes) -> None: ...


async def test_what_does_not_exist_is_told_once_and_until_it_appears(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Application("embedded://", "shop.", entry_points=False)
    app.subscribe("orders", "billing")(handle)
    app.subscribe_to_topics(["paid", "sent"], "billing")(handle)
    app.subscribe("refunds.*", "billing")(handle)
    app.plugins.register(OwnStream())
    missing = [
        f"group billing: topic shop.{name} does not exist, or we are not authorized to see it"
        for name in ("orders", "paid", "sent")
    ]
    unmatched = "group billing: no topic matches shop.refunds.*"

    async with consuming(app):
        await eventually(lambda: app.health().reasons == (*missing, unmatched), within=20)
        assert app.health().is_live
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert told == [f"{text}; waiting for it" for text in (*missing, unmatched)]

        for stream in ("orders", "paid", "refunds.new"):
            await app.raw_publish(stream, b"1")
        await eventually(lambda: app.health().reasons == (missing[2],), within=20)

    assert caplog.text.count("waiting for it") == 4

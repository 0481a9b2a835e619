"""The plugin decides on messages that are handled without Kafka, too."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core import Application, RebalanceEvent, Retry, Subscriber
from kafkaesk_retry import RetryPlugin, RetrySettings, retries


async def test_a_failure_is_a_retry_also_where_no_kafka_is() -> None:
    app = Application(entry_points=False, plugins=[RetryPlugin(RetrySettings(attempts=2))])

    @app.subscribe("in", "g")
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    result = await app.handle("in", b"x")

    assert result.kind == "retry"
    assert isinstance(result.error, Retry)
    assert "ValueError: always (attempt 1 of 2)" in str(result.error)


async def test_skipped_or_switched_off_it_leaves_no_trace() -> None:
    app = Application(entry_points=False, plugins=[RetryPlugin()])

    @app.subscribe("in", "g", skip_plugins=["retry"])
    async def skipping(data: bytes) -> None:
        raise ValueError("always")

    @app.subscribe("in", "h")
    @retries(attempts=1, dead_letter=False)
    async def off(data: bytes) -> None:
        raise ValueError("always")

    for group in ("g", "h"):
        result = await app.handle("in", b"x", group=group)
        assert (result.kind, str(result.error)) == ("stop", "always")
    assert {s for one in app.subscriptions for s in one.streams} == {"in"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKAESK_DISABLE_PLUGINS", "retry"),
        ("KAFKAESK_RETRY_ENABLED", "false"),
        ("KAFKAESK_PLUGINS", ""),  # as if it were not installed
    ],
)
async def test_disabled_in_the_environment_it_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.delenv("KAFKAESK_RETRY_ENABLED", raising=False)
    monkeypatch.setenv(variable, value)
    app = Application()

    @app.subscribe("in", "g")
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    result = await app.handle("in", b"x")

    assert (result.kind, str(result.error)) == ("stop", "always")
    assert [one.streams for one in app.subscriptions] == [("in",)]
    assert "retry" not in app.status().plugins


async def test_a_retry_of_the_handlers_own_before_a_restart_is_no_crash() -> None:
    """Its note says attempt 8; this process has not seen the seven before it."""
    app = Application(entry_points=False, plugins=[RetryPlugin(RetrySettings(attempts=2))])
    seen: list[int] = []

    @app.subscribe("in", "g")
    async def handle(data: bytes, subscriber: Subscriber) -> None:
        seen.append(subscriber.message.attempt)
        if len(seen) < 3:
            raise Retry("the database is away")

    results = [await app.handle("in", b"x", attempt=attempt) for attempt in (8, 9, 10)]

    assert [result.kind for result in results] == ["retry", "retry", "done"]
    assert seen == [8, 9, 10]


async def test_what_could_not_be_written_of_a_record_that_waited_goes_with_its_partition() -> None:
    """It was kept: a later replay of the record was not handled, but died of the old failure."""
    plugin, handled = RetryPlugin(RetrySettings(attempts=1)), list[bytes]()
    app = Application(entry_points=False, plugins=[plugin])

    @app.subscribe("a", "g")
    async def handle(data: bytes) -> None:
        handled.append(data)
        if len(handled) == 1:
            raise ValueError("once")

    @app.subscribe("b", "g")
    async def another(data: bytes) -> None: ...

    async def replay() -> str:
        headers = [("kafkaesk-replay-of", b"a/0/7"), ("kafkaesk-replay-count", b"1")]
        result = await app.handle("retry.g.0", b"x", headers=headers, group="g", partition=3)
        return result.kind

    refusing: Any = Refusing()
    plugin._mailer = refusing
    assert await replay() == "defer"
    assert await replay() == "defer"
    assert handled == [b"x"], "it died; only its letter is still to be written"

    event = RebalanceEvent("revoked", frozenset({TopicPartition("retry.g.0", 3)}), "g")
    for subscription in app.subscriptions:
        plugin.partitions_revoked(event, subscription)

    assert await replay() == "done"
    assert handled == [b"x", b"x"]


async def test_replayed_records_are_reported_with_the_others_of_their_handler() -> None:
    """Those of the last subscription of a handler stood for all of them."""
    plugin = RetryPlugin(RetrySettings(attempts=3))
    app = Application(entry_points=False, plugins=[plugin])

    async def handle(data: bytes) -> None:
        raise ValueError("always")

    app.subscribe("in", "g")(handle)
    app.subscribe("in", "h")(handle)
    headers = [("kafkaesk-replay-of", b"in/0/7"), ("kafkaesk-replay-count", b"1")]
    for stream, group in (("in", "g"), ("retry.g.0", "g"), ("retry.g.0", "g"), ("in", "h")):
        await app.handle(stream, b"x", headers=headers, group=group)

    told = plugin.report()
    assert {name.rpartition(".")[2]: one["retried"] for name, one in told.items()} == {
        "handle": 3,
        "handle of h": 1,
    }


class Refusing:
    """A mailer whose streams refuse everything."""

    async def send(self, stream: str, parcel: object) -> None: ...

    def pause(self, stream: str) -> float:
        return 1.0

    def keep(self, streams: set[str]) -> None: ...

"""The plugin decides on messages that are handled without Kafka, too."""

from __future__ import annotations

from kafkaesk_core import Application, Retry, Subscriber
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

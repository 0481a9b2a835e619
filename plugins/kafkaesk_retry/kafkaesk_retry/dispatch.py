"""Waiting records of a group with several handlers: each goes to the handler that failed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from kafkaesk_core import App, ConsumerRecord, Defer, Retry, Skip, Subscriber

from .letter import origin_of
from .places import handed_on, place_of

__all__ = ["hand_out"]

PAUSE = 1.0


def hand_out(app: App, group: str) -> Callable[..., Awaitable[None]]:
    """Return a handler that passes a group's waiting records to the handlers of their streams."""
    prefix = app.settings.topic_prefix

    async def handle_waiting(record: ConsumerRecord, subscriber: Subscriber) -> None:
        message = subscriber.message
        origin = origin_of(message)
        due = origin.due_ms / 1000 - time.time()
        if due > 0:
            raise Defer(due, "it is not due yet")
        place = origin.place
        if place == place_of(message):
            raise Skip("the record does not say which record it was, so no handler can get it")
        with handed_on(message):
            result = await app.handle(
                place.topic.removeprefix(prefix),
                record.value,
                record.key,
                record.headers,
                group=group,
                partition=place.partition,
                offset=place.offset,
                timestamp_ms=record.timestamp,
                attempt=message.attempt,
            )
        if result.kind == "retry":
            raise Retry(str(result.error), delay=result.delay)
        if result.kind in ("defer", "released"):
            raise Defer(result.delay or PAUSE, str(result.error or ""))
        if result.kind == "skip":
            raise Skip(str(result.error))
        if result.kind == "stop" and result.error is not None:
            raise result.error

    return handle_waiting

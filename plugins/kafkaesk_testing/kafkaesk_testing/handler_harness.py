"""A harness for a service's handlers: takes messages, returns outcomes and publications."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kafkaesk_core import Application, Data, Delivery, Header, OutgoingMessage, hookimpl

__all__ = ["Harness", "Outcome", "harness"]

PLUGIN = "kafkaesk-testing-harness"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a message: "done", "skip" or "stop", with the reason.

    `attempts` counts the handler's runs, including the first one, but no deferrals. `waited` is the
    number of seconds that the message would have waited for retries and deferrals.
    """

    kind: str
    error: BaseException | None
    attempts: int
    waited: float


class _Recorder:
    """Notes the messages published by the service and its plugins."""

    stage = "observe"

    def __init__(self) -> None:
        self.messages: list[OutgoingMessage] = []

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Delivery:
        """Note an accepted message."""
        delivery: Delivery = await call_next(message)
        self.messages.append(message)
        return delivery


class Harness:
    """Delivers messages to the handlers of an application; see `harness`."""

    def __init__(self, app: Application, recorder: _Recorder) -> None:
        self._app = app
        self._recorder = recorder
        self._offsets: Counter[tuple[str, int]] = Counter()

    async def deliver(
        self,
        stream: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] = (),
        *,
        group: str | None = None,
        schema: str | None = None,
        partition: int = 0,
        max_attempts: int = 100,
    ) -> Outcome:
        """Handle a message until it is done, skipped, or stops the service; never wait.

        A retry runs at once; the outcome's `waited` has the omitted delay. The other arguments are
        those of `Application.handle`.

        Raises:
            AssertionError: the message is not finished after `max_attempts` runs of the handler.
            SubscriptionError: no handler takes the stream, or several handlers do.
            SchemaError: the data satisfies no schema.
        """
        offset = self._offsets[stream, partition]
        self._offsets[stream, partition] += 1
        pairs, attempt, waited = list(headers), 1, 0.0
        for _ in range(max_attempts):
            result = await self._app.handle(
                stream,
                data,
                key,
                pairs,
                group=group,
                schema=schema,
                partition=partition,
                offset=offset,
                attempt=attempt,
            )
            if result.kind not in ("retry", "defer"):
                return Outcome(result.kind, result.error, attempt, waited)
            waited += result.delay
            attempt += result.kind == "retry"
        raise AssertionError(
            f"{stream}[{partition}]@{offset} is not over after {max_attempts} runs of its handler: "
            f"{result.kind}, {result.error!r}"
        )

    def messages(self, stream: str) -> list[OutgoingMessage]:
        """Return the messages published to a stream, in order: data, key, headers."""
        return [message for message in self._recorder.messages if message.stream == stream]

    def published(self, stream: str) -> list[Any]:
        """Return the data published to a stream, in order; models are unchanged."""
        return [message.data for message in self.messages(stream)]


@asynccontextmanager
async def harness(app: Application) -> AsyncIterator[Harness]:
    """Run an application on a broker inside the process, to deliver messages to its handlers.

    Layers, decoding, decisions and publishing are real; nothing is consumed. The application's
    `kafka_servers` are set to `embedded://`.
    """
    recorder = _Recorder()
    app.override(kafka_servers="embedded://")
    app.plugins.register(recorder, PLUGIN, source="kafkaesk-testing")
    try:
        async with app:
            yield Harness(app, recorder)
    finally:
        app.plugins.unregister(PLUGIN)

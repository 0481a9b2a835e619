"""The application: what a service declares, publishes with and runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from aiokafka.structs import RecordMetadata

from .delivery import Delivery
from .errors import (
    ConfigurationError,
    InvalidMessageError,
    NotRunningError,
)
from .groups import Groups
from .message import Data, Header, IncomingMessage, OutgoingMessage, check_address, checked_headers
from .outcome import Outcome
from .plugins.chains import without_result
from .runtime import Runtime
from .schema.registration import SchemaRegistration
from .state import State
from .subscription import Subscription

__all__ = ["Application"]


class Application(State):
    """Publishes and consumes; declare on it, then `async with app`, or the command `kafkaesk`.

    For the arguments see Configuration and Settings.
    """

    _starter: asyncio.Task[Any] | None = None

    @cached_property
    def _starting(self) -> asyncio.Lock:
        return asyncio.Lock()

    def _check_stopped(self) -> None:
        if self._runtime is not None:
            raise NotRunningError("configure() an application before it starts, or after its end")

    def _plugins_changed(self) -> None:
        if self._runtime is not None and self._runtime.is_open:
            self._runtime.compile()

    def _add_schema(self, registration: SchemaRegistration) -> None:
        super()._add_schema(registration)
        self.plugins.declare_schema(registration, self)

    def _add_subscription(self, subscription: Subscription) -> None:
        if self.is_consuming:
            raise NotRunningError(
                f"{subscription!r} comes too late: the application consumes already"
            )
        super()._add_subscription(subscription)

    # --- lifecycle

    async def initialize(self) -> None:
        """Load plugins, check everything, connect, create topics; what fails is undone.

        Idempotent, and safe to be called by several tasks at once.

        Raises:
            ConfigurationError: settings, handlers or schemas cannot work.
            PluginError: a plugin cannot be loaded.
            BrokerError: no broker could be reached within `start_timeout`, or it refuses us.
        """
        self._check_not_starting("initialize it again, or publish,")
        async with self._starting:
            if self._runtime is None:
                self._starter = asyncio.current_task()
                try:
                    await self._start()
                finally:
                    self._starter = None

    async def _start(self) -> None:
        settings = self.settings
        settings.check()
        self.load_plugins()
        self._groups = Groups(
            self, self.publish, self._schemas, self.plugins, self._subscriptions, settings
        )
        runtime = Runtime(self, settings, self.plugins, self._schemas, self._event_handlers)
        self._runtime = runtime
        try:
            await runtime.start()
        except BaseException:
            self._runtime = None
            raise

    async def finalize(self) -> None:
        """Stop consuming, call the "finalize" handlers, deliver what is buffered, disconnect.

        Idempotent; what was started by then is undone, a start in progress is waited for.
        """
        self._check_not_starting("finalize it")
        async with self._starting:
            runtime = self._runtime
            if runtime is not None:
                try:
                    await runtime.stop()
                finally:
                    self._runtime = None

    def _check_not_starting(self, attempted: str) -> None:
        """The task that starts the application would wait for itself."""
        if self._starter is not None and self._starter is asyncio.current_task():
            raise NotRunningError(
                f"the application is starting, so what starts it cannot {attempted}; "
                "publish in an 'initialize' handler, and raise to stop the start"
            )

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.finalize()

    async def _running(self) -> Runtime:
        runtime = self._runtime
        if runtime is None or not runtime.is_open:
            await self.initialize()
            runtime = self._runtime
        if runtime is None:
            raise NotRunningError("the application was stopped while it started")
        return runtime

    # --- publish

    async def publish(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        origins: Sequence[IncomingMessage] = (),
    ) -> Delivery:
        """Publish a model, or JSON-able data of a schema, to a stream.

        Returns once the message is buffered; await the delivery for the broker's
        acknowledgement. `schema` ("Content:1") may be left out for models, and where the stream
        already carries one. `timestamp_ms` is by default now.

        Raises:
            SchemaError: the data satisfies no schema, or not the one that the stream carries.
            MessageTooLargeError: the message is larger than the producer may send.
            DeliveryFailedError: there was no room in the buffer within `delivery_timeout`.
            TopicError: the topic cannot be created.
        """
        if data is None or isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidMessageError(
                f"publish to {stream_id} got {type(data).__name__}; publish a model or JSON-able "
                "data, or use raw_publish() for bytes and tombstones",
                schema=schema,
                topic=stream_id,
            )
        return await self._send(
            stream_id,
            data,
            key=key,
            schema=schema,
            headers=checked_headers(headers),
            partition=partition,
            timestamp_ms=timestamp_ms,
            origins=origins,
        )

    async def publish_and_wait(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Publish, and wait for the broker's acknowledgement.

        Raises:
            DeliveryFailedError: the message was certainly not written.
            DeliveryUnknownError: it may or may not have been written.
            SchemaError: as with `publish`.
        """
        delivery = await self.publish(
            stream_id,
            data,
            key,
            headers,
            schema=schema,
            partition=partition,
            timestamp_ms=timestamp_ms,
        )
        return await delivery

    async def raw_publish(
        self,
        stream_id: str,
        data: bytes | None,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        origins: Sequence[IncomingMessage] = (),
    ) -> Delivery:
        """Publish bytes as they are: no envelope, no schema. None is a tombstone."""
        if data is not None and not isinstance(data, bytes):
            raise InvalidMessageError(
                f"raw_publish to {stream_id} got {type(data).__name__}, not bytes; "
                "use publish() for models and JSON-able data",
                topic=stream_id,
            )
        return await self._send(
            stream_id,
            data,
            key=key,
            headers=checked_headers(headers),
            partition=partition,
            timestamp_ms=timestamp_ms,
            origins=origins,
        )

    async def _send(self, stream_id: str, data: Data, **fields: Any) -> Delivery:
        check_address(stream_id, fields["key"], fields["partition"], fields["timestamp_ms"])
        runtime = self._runtime
        if runtime is None or not runtime.is_open:
            runtime = await self._running()
        if not runtime.can_publish:
            await runtime.start_publisher()
        topic = runtime.topics.topic_of(stream_id)
        delivery = await runtime.publish(OutgoingMessage(stream_id, topic, data, **fields))
        if delivery is None:
            raise without_result("wrap_publish", self.plugins.layers("wrap_publish"))
        return delivery

    async def publish_internal(
        self,
        stream_id: str,
        data: bytes,
        *,
        schema: str,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Publish on a plugin's own account: no layer and no observer of any plugin sees it.

        For what plugins say themselves, log lines for one: no spans, no inherited headers, nothing
        validated twice. `data` is a whole envelope of `schema` ("Content:1"), which is registered.
        Call it on the application's event loop; it never starts the application.

        Raises:
            NotRunningError: the application is not running.
            UnknownSchemaError: the schema is not registered.
            SchemaConflictError: the stream carries another one.
            KafkaeskError: as with `publish`.
        """
        if self._runtime is None or not self._runtime.is_open:
            raise NotRunningError(f"nothing is published to {stream_id}: no application runs")
        return await self._runtime.publish_internal(
            stream_id, data, schema, key=key, headers=headers, timestamp_ms=timestamp_ms
        )

    async def flush(self) -> None:
        """Wait until everything buffered was acknowledged or has failed."""
        if self._runtime is not None:
            await self._runtime.publisher.flush()

    # --- consume

    async def consume_for(self, num_messages: int, *, seconds: float | None = None) -> int:
        """Consume until so many messages are finished with, or `seconds` are over.

        Returns how many were handled or skipped; handlers that run at the same time may make it
        more than asked for.

        Raises:
            HandlerError: a handler failed and its subscription does not go on.
            ConfigurationError: there is nothing to wait for.
        """
        if not isinstance(num_messages, int) or num_messages < 1:
            raise ConfigurationError(f"consume_for({num_messages!r}): give 1 message or more")
        if seconds is not None and not seconds > 0:
            raise ConfigurationError(f"consume_for(seconds={seconds!r}): give more than 0, or None")
        consumed = 0

        def count(_: Outcome) -> None:
            nonlocal consumed
            consumed += 1
            if consumed >= num_messages and runtime.consumption is not None:
                runtime.consumption.request_stop()

        runtime = await self._running()
        await self._consume(runtime, count, seconds)
        return consumed

    async def consume_forever(self) -> None:
        """Consume until `stop()` is called.

        Raises:
            HandlerError: a handler failed and its subscription does not go on.
            BrokerError: a group cannot be joined, or its membership cannot be kept.
        """
        await self._consume(await self._running(), lambda _: None, None)

    async def _consume(
        self, runtime: Runtime, count: Callable[[Outcome], None], seconds: float | None
    ) -> None:
        consumption = runtime.consumption_of(self._groups.consumers(runtime, count))
        try:
            await consumption.run(start_timeout=runtime.settings.start_timeout, seconds=seconds)
        finally:
            await runtime.stop_consuming()
        failure = consumption.failure()
        if failure is not None:
            raise failure

    async def stop(self) -> None:
        """Stop consuming: take no more, finish, commit, leave the groups.

        Idempotent and safe to be called at any time by several tasks; `consume_forever` returns,
        also if the application is still starting.
        """
        runtime = self._runtime
        if runtime is not None:
            runtime.is_stop_requested = not runtime.is_open
            await runtime.stop_consuming()

"""The part of an application that publishes."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from asyncio import get_running_loop
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NoReturn

from pydantic import BaseModel

from .arguments import check_address, check_many, check_options, checked_headers
from .deliveries import Deliveries
from .delivery import Delivery
from .errors import InvalidMessageError, NotRunningError
from .event_loop import check_loop
from .message import Data, Header, IncomingMessage, OutgoingMessage
from .plugins.chains import without_result
from .runtime import Runtime
from .state import State
from .structs import RecordMetadata

__all__ = ["Publishing"]

_BYTES = (bytes, bytearray, memoryview)
_ONE_MESSAGE = (BaseModel, Mapping, str, *_BYTES)
_CHUNK = 200
"""Messages that `publish_many` takes before it lets others run."""


class Publishing(State):
    """Publishes through what runs, which is started when it is first needed."""

    @abstractmethod
    async def _running(self) -> Runtime:
        """Return what runs, started if need be."""

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
        meta: Mapping[str, Any] | None = None,  # values of any type: the plugins' own
    ) -> Delivery:
        """Publish a model, or JSON-able data of a schema, to a stream.

        Returns once the message is buffered; await the delivery for the broker's
        acknowledgement. `schema` ("Content:1") may be left out for models, and where the stream
        already carries one. `timestamp_ms` is by default now. `meta` is for plugins: what they
        find in the message's `meta`.

        Raises:
            SchemaError: the data satisfies no schema, or not the one that the stream carries.
            MessageTooLargeError: the message is larger than the producer may send.
            DeliveryFailedError: there was no room in the buffer within `delivery_timeout`.
            TopicError: the topic cannot be created.
        """
        if data is None or isinstance(data, _BYTES):
            raise _not_raw(stream_id, data, schema)
        check_address(stream_id, key, partition, timestamp_ms)
        if schema is not None or meta is not None or origins != ():
            check_options(schema, origins, meta)
        runtime = self._runtime
        is_ready = runtime is not None and runtime.can_publish
        if runtime is None or not is_ready or runtime.loop is not get_running_loop():
            runtime = await self._publishing()
        topic = runtime.topics.topic_of(stream_id)
        pairs = None if headers is None else checked_headers(headers)
        message = OutgoingMessage(
            stream_id, topic, data, key, schema, pairs, partition, timestamp_ms, origins, meta
        )
        delivery = runtime.offer(message)
        if delivery is None:
            delivery = await runtime.publish(message)
        return delivery or self._swallowed()

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
        meta: Mapping[str, Any] | None = None,  # as of `publish`
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
            meta=meta,
        )
        return await delivery

    async def publish_many(
        self,
        stream_id: str,
        data: Iterable[Data] | AsyncIterable[Data],
        key: Callable[[Any], bytes | None] | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
    ) -> int:
        """Publish models, or JSON-able data, one after the other, and wait for all.

        `key` makes the key of each. Takes from `data` as there is room in the send buffer, so it
        may be endless; a list of 10,000 or a generator cost the same memory. Returns how many
        were acknowledged.

        Raises:
            DeliveryFailedError: one was certainly not written; those behind it may be.
            DeliveryUnknownError: one may or may not have been written.
            SchemaError: as with `publish`; what came before is published.
            InvalidMessageError: `data` is one message, and not several.
        """
        check_address(stream_id, None, None, None)
        if isinstance(data, _ONE_MESSAGE):  # iterable, and not what is meant
            raise InvalidMessageError(
                f"publish_many to {stream_id} got one {type(data).__name__}; give it an iterable "
                "of messages, or use publish()",
                schema=schema,
                topic=stream_id,
            )
        check_many(data, key)
        check_options(schema, (), None)
        runtime, deliveries = await self._publishing(), Deliveries()
        topic = runtime.topics.topic_of(stream_id)
        pairs = checked_headers(headers)
        async for chunk in _chunks(data):
            for one in chunk:
                if one is None or isinstance(one, _BYTES):
                    raise _not_raw(stream_id, one, schema)
                one_key = None if key is None else key(one)
                check_address(stream_id, one_key, None, None)
                message = OutgoingMessage(stream_id, topic, one, one_key, schema, [*pairs])
                delivery = runtime.offer(message)
                if delivery is None:
                    delivery = await runtime.publish(message)
                deliveries.add(delivery or self._swallowed())
            deliveries.take_done()
            await asyncio.sleep(0)  # so that what is sent is not late
        return await deliveries.wait()

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
        meta: Mapping[str, Any] | None = None,  # values of any type: the plugins' own
    ) -> Delivery:
        """Publish bytes as they are: no envelope, no schema. None is a tombstone."""
        if data is not None and not isinstance(data, bytes):
            raise InvalidMessageError(
                f"raw_publish to {stream_id} got {type(data).__name__}, not bytes; "
                "use publish() for models and JSON-able data",
                topic=stream_id,
            )
        check_address(stream_id, key, partition, timestamp_ms)
        check_options(None, origins, meta)
        runtime = await self._publishing()
        message = OutgoingMessage(
            stream_id,
            runtime.topics.topic_of(stream_id),
            data,
            key=key,
            headers=checked_headers(headers),
            partition=partition,
            timestamp_ms=timestamp_ms,
            origins=origins,
            meta=meta,
        )
        return await runtime.publish(message) or self._swallowed()

    async def _publishing(self) -> Runtime:
        """The runtime, once it is open and its publisher runs."""
        runtime = await self._running()
        if not runtime.can_publish:
            await runtime.start_publisher()
        return runtime

    def _swallowed(self) -> NoReturn:
        raise without_result("wrap_publish", self.plugins.layers("wrap_publish"))

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
        runtime = self._runtime
        if runtime is None or not runtime.is_open:
            raise NotRunningError(f"nothing is published to {stream_id}: no application runs")
        check_loop(runtime.loop, "publish_internal()")
        check_address(stream_id, key, None, timestamp_ms)
        topic = runtime.topics.topic_of(stream_id)
        runtime.topics.claim(topic, self._schemas.named(schema, topic).id)
        message = OutgoingMessage(
            *(stream_id, topic, data),
            key=key,
            schema=schema,
            headers=checked_headers(headers) if headers else [],
            timestamp_ms=timestamp_ms,
        )
        message.is_internal = True
        if not runtime.can_publish:
            await runtime.start_publisher()
        return await runtime.publisher.send(message)  # the chain without layers

    async def flush(self) -> None:
        """Wait until everything buffered was acknowledged or has failed."""
        check_loop(self.loop, "flush()")
        if self._runtime is not None:
            await self._runtime.publisher.flush()


def _not_raw(stream: str, data: Data, schema: str | None) -> InvalidMessageError:
    return InvalidMessageError(
        f"publish to {stream} got {type(data).__name__}; publish a model or JSON-able data, "
        "or use raw_publish() for bytes and tombstones",
        schema=schema,
        topic=stream,
    )


async def _chunks(data: Iterable[Data] | AsyncIterable[Data]) -> AsyncIterator[Iterable[Data]]:
    """What can be taken at once."""
    if isinstance(data, AsyncIterable):
        async for one in data:
            yield (one,)
    else:
        rest = iter(data)
        for one in rest:
            yield chain((one,), islice(rest, _CHUNK - 1))

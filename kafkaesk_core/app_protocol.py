"""The application, as hooks and the arguments of handlers see it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

    from pydantic import BaseModel

    from .delivery import Delivery
    from .description import Description
    from .message import Data, Header, IncomingMessage
    from .offsets import HandlerResult
    from .router import Subscription
    from .schema.registry import SchemaRegistration
    from .settings import Settings
    from .status import Health, Status
    from .structs import RecordMetadata

__all__ = ["App"]


class App(Protocol):
    """The application as hooks get it: `Application` without the methods that declare and run it.

    `Application` documents each method and the errors that it raises.
    """

    # --- state

    @property
    def settings(self) -> Settings:
        """The merged settings."""

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions of the service and of plugins, in the order of their declaration."""

    @property
    def schemas(self) -> Mapping[str, SchemaRegistration]:
        """The registered schemas, by name: "Content:1"."""

    def schema(
        self,
        _id: str | None = None,
        *,
        version: int | None = None,
        retention: int | None = None,
        streams: Sequence[str] | None = None,
        partitions: int | None = None,
        replication_factor: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Callable[[type[BaseModel]], type[BaseModel]]:
        """Register a model of the plugin as a schema; `retention` is in seconds."""

    @property
    def claimed_headers(self) -> frozenset[str]:
        """Header names that plugins own; nothing else copies or overwrites them."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The application's event loop; None while the application is not running."""

    @property
    def servers(self) -> Sequence[str]:
        """The bootstrap servers, as "host:port"; empty while the application is not running."""

    @property
    def is_consuming(self) -> bool:
        """Whether consumers are running, starting or stopping."""

    def describe(self) -> Description:
        """Return the application's streams, handlers, schemas and plugins as plain data."""

    def status(self) -> Status:
        """Return a snapshot of the groups, their partitions, and the message counts."""

    def health(self) -> Health:
        """Return whether the application is live, ready or degraded, and why."""

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
        meta: Mapping[str, Any] | None = None,  # values of any type: the plugins' own
    ) -> Delivery:
        """Publish one message; return once it is buffered."""

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
        """Publish one message, and wait for the broker's acknowledgement."""

    async def publish_many(
        self,
        stream_id: str,
        data: Iterable[Data] | AsyncIterable[Data],
        key: Callable[[Any], bytes | None] | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
    ) -> int:
        """Publish several messages, and wait until the brokers have acknowledged all of them."""

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
        """Publish bytes as they are: no envelope, no schema."""

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
        """Publish one of the plugin's own envelopes; no layer and no observer sees it."""

    async def forward(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Write a record unchanged to a topic, without the layers of any plugin."""

    async def ensure_topic(
        self,
        topic: str,
        *,
        partitions: int | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> int | None:
        """Create a topic unless it exists; return how many partitions it has."""

    async def flush(self) -> None:
        """Wait until every buffered message is acknowledged or has failed."""

    # --- consume

    async def handle(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        group: str | None = None,
        schema: str | None = None,
        partition: int = 0,
        offset: int = 0,
        timestamp_ms: int | None = None,
        attempt: int = 1,
    ) -> HandlerResult:
        """Handle one message without Kafka, with all layers, and return the result."""

    async def pause(
        self,
        group: str | None = None,
        streams: Sequence[str] | str | None = None,
        reason: str = "",
    ) -> None:
        """Stop starting handlers: for a group, for some streams, or for everything."""

    async def resume(
        self, group: str | None = None, streams: Sequence[str] | str | None = None
    ) -> None:
        """End a pause."""

    async def stop(self) -> None:
        """Stop consuming; inside a handler, only request the stop."""

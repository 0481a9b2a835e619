"""The application: a service declares, configures and runs it, and publishes with it."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from itertools import chain, islice
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack

from .delivery import Delivery, PendingDeliveries, delivery_of
from .description import Description
from .errors import ConfigurationError, InvalidMessageError, NotRunningError, UnhealthyError
from .handlers import takes_batches
from .inspection import describe
from .message import (
    RAW_TYPES,
    Data,
    Header,
    IncomingMessage,
    OutgoingMessage,
    check_address,
    check_many,
    check_options,
    copy_headers,
    raw_data_error,
)
from .offsets import HandlerResult
from .pauses import Pauses
from .plugins.chains import make_no_result_error
from .plugins.contract import did_you_mean, function_plugin
from .plugins.installed import load_installed, publish_chain, read_plugin_choice
from .plugins.loading import check_names, check_plugin_arguments
from .plugins.manager import Plugins
from .publications import resolve_publications
from .router import Router, Subscription, is_count, is_number
from .schema.registry import SchemaRegistration
from .settings import (
    Settings,
    Tuning,
    check_settings,
    lift_settings,
    merge_settings,
)
from .shutdown import Shutdown
from .status import Health, Status
from .structs import RecordMetadata, TopicPartition
from .tasks import check_loop
from .transition import Transition

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["Application"]

F = TypeVar("F", bound=Callable[..., Any])

_HANDLERS_SECONDS = 30.0
"""How long the "initialize" handlers and plugins may take before a wait for them is doubtful."""

_CHUNK = 500
"""The number of messages that `publish_many` takes before it lets other tasks run."""
_NO_ORIGINS: Sequence[IncomingMessage] = ()
"""The default of `origins`: Python has one empty tuple."""


class Application(Router):
    """Publishes and consumes: declare handlers on it, then use `async with app` or run `kafkaesk`.

    `plugins` are registered in addition to the installed plugins; `entry_points=False` leaves the
    installed ones out. `plugin_settings` maps a plugin's name to its settings. `Settings` documents
    all other arguments, with their defaults and environment variables.

    Raises:
        ConfigurationError: a name, a type or a value is wrong.
        PluginError: a plugin breaks its contract.
    """

    def __init__(
        self,
        kafka_servers: Sequence[str] | str | None = None,
        topic_prefix: str = "",
        kafka_settings: Mapping[str, Any] | None = None,
        replication_factor: int | None = None,
        kafka_api_version: str = "auto",
        auto_commit: bool = True,
        auto_commit_interval_ms: int = 5000,
        *,
        plugins: Sequence[object] = (),
        disable_plugins: Iterable[str] = (),
        plugin_order: Sequence[str] = (),
        plugin_settings: Mapping[str, Mapping[str, Any]] | None = None,
        entry_points: bool = True,
        **tuning: Unpack[Tuning],
    ) -> None:
        super().__init__()
        self._runtime: Runtime | None = None
        self._consumes = False  # in this run, as far as was asked for
        self._asked: set[object] = set()  # calls of consume_forever() that have not begun
        self._consuming_failed: Exception | None = None
        self._transition = Transition(self._start_patience)
        self._stop_requests = 0
        self._plugin_routers: list[Router] = []
        self._is_declaring = False
        self._pauses = Pauses()
        check_plugin_arguments(plugins, plugin_settings, entry_points)
        self._disabled_plugins = frozenset(check_names("disable_plugins", disable_plugins))
        configured_order = check_names("plugin_order", plugin_order)
        self._configured: dict[str, Any] = {}
        self._overrides: dict[str, Any] = {}
        self.configure(
            kafka_servers,
            topic_prefix,
            kafka_settings,
            replication_factor,
            kafka_api_version,
            auto_commit,
            auto_commit_interval_ms,
            **tuning,
        )
        order = read_plugin_choice().plugin_order
        self.plugins = Plugins(
            order=configured_order if order is None else order, on_change=self._plugins_changed
        )
        self._plugin_settings = plugin_settings or {}
        self._loads_entry_points = entry_points
        for plugin in plugins:
            self.plugins.register(plugin)

    # --- configure

    def configure(
        self,
        kafka_servers: Sequence[str] | str | None = None,
        topic_prefix: str | None = None,
        kafka_settings: Mapping[str, Any] | None = None,
        replication_factor: int | None = None,
        kafka_api_version: str | None = None,
        auto_commit: bool | None = None,
        auto_commit_interval_ms: int | None = None,
        **tuning: Unpack[Tuning],
    ) -> None:
        """Change settings; a setting that is omitted or None keeps its value.

        `kafka_servers` is one "host:port" or several. `kafka_settings` are merged into the earlier
        ones.

        Raises:
            ConfigurationError: a name, a type or a value is wrong.
            NotRunningError: the application is running.
        """
        self._check_stopped()
        given = {
            "kafka_servers": kafka_servers,
            "topic_prefix": topic_prefix,
            "kafka_settings": kafka_settings,
            "replication_factor": replication_factor,
            "kafka_api_version": kafka_api_version,
            "auto_commit": auto_commit,
            "auto_commit_interval_ms": auto_commit_interval_ms,
            **tuning,
        }
        changed = {name: v for name, v in lift_settings(given).items() if v is not None}
        merged = {**self._configured, **changed}
        check_settings(merged)
        self._configured = merged

    def override(self, **settings: Any) -> None:
        """Change settings as the command line does: these values also override the environment.

        Raises:
            ConfigurationError: a name, a type or a value is wrong.
        """
        given = {name: v for name, v in lift_settings(settings).items() if v is not None}
        check_settings({**self._configured, **given})
        self._overrides.update(given)

    @property
    def settings(self) -> Settings:
        """The merged settings: overrides, then the environment, then the configured values."""
        return merge_settings(self._configured, overrides=self._overrides)

    @property
    def claimed_headers(self) -> frozenset[str]:
        """Header names that plugins own."""
        return self.plugins.claimed_headers

    def hook(self, func: F) -> F:
        """Register one function of the service as a hook; the function has the hook's name."""
        self.plugins.register(function_plugin(func))
        return func

    def load_plugins(self) -> None:
        """Load the installed plugins, as the start does.

        Raises:
            PluginError: a plugin cannot be loaded; the error says how to start without it.
        """
        load_installed(
            self.plugins,
            disabled=self._disabled_plugins,
            settings=self._plugin_settings,
            entry_points=self._loads_entry_points,
        )

    def describe(self) -> Description:
        """Return the application's streams, handlers, schemas and plugins as JSON-able data.

        Settings are left out, because they may hold secrets. No broker is needed. Unless the
        application is running, this loads the installed plugins and calls their `declare` hooks.

        Raises:
            ConfigurationError: a handler or a schema is invalid.
            SchemaError: a schema named by `publishes()` is not registered, or conflicts with
                another one.
            PluginError: a plugin cannot be loaded.
        """
        if self._runtime is None and not self._is_declaring:
            self._prepare()
        return describe(self, self._schemas, self.plugins, self.settings.topic_prefix)

    def chains(self) -> dict[str, list[str]]:
        """The layers around publishing and around each subscription, outermost first."""
        found = {"wrap_publish": publish_chain(self.plugins)}
        for subscription in self._subscriptions:
            hook = "wrap_consume_batch" if takes_batches(subscription) else "wrap_consume"
            layers = self.plugins.layers(hook, subscription.skip_plugins)
            name = f"{hook} ({subscription.group})"
            found[name] = [*layers, "decode", subscription.handler_name]
        return found

    def _check_stopped(self) -> None:
        if self._runtime is not None:
            raise NotRunningError(
                "the application is running; call configure() before it starts or after its stop"
            )

    def _plugins_changed(self) -> None:
        if self._runtime is not None and self._runtime.is_open:
            self._runtime.compile()

    def _add_schema(self, registration: SchemaRegistration) -> None:
        super()._add_schema(registration)
        self.plugins.declare_schema(registration, self)

    def _add_subscription(self, subscription: Subscription) -> None:
        if self.is_consuming:
            raise NotRunningError(
                f"{subscription!r} is too late: the application is already consuming; "
                "subscribe before consume_forever()"
            )
        super()._add_subscription(subscription)
        if self._runtime is not None:
            try:
                self._bind(self._runtime.settings)
            except BaseException:
                self._subscriptions.remove(subscription)
                raise

    # --- state

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The application's event loop; None while the application is not running."""
        return None if self._runtime is None else self._runtime.loop

    @property
    def servers(self) -> Sequence[str]:
        """The bootstrap servers, as "host:port"; empty while the application is not running."""
        return () if self._runtime is None else self._runtime.servers

    @property
    def is_consuming(self) -> bool:
        """Whether consumers are running, starting or stopping."""
        return self._runtime is not None and self._runtime.consumption is not None

    @property
    def shutdown(self) -> Shutdown | None:
        """The time limit of a stop; None while the application is not running."""
        return None if self._runtime is None else self._runtime.shutdown

    def status(self) -> Status:
        """Return a snapshot as plain values, which other threads may read."""
        runtime = self._runtime
        return Status("stopped") if runtime is None else runtime.status()

    def health(self) -> Health:
        """Return whether the application is live, ready or degraded, and why."""
        runtime = self._runtime
        if runtime is None:
            return Health(is_live=True, is_ready=False, reasons=("the application is not running",))
        consumes = self._consumes or bool(self._asked)
        return runtime.health(consumes=consumes, failed=self._consuming_failed)

    async def health_check(self) -> None:
        """Raise if the application should be restarted; a temporary problem does not raise.

        Raises:
            UnhealthyError: the application makes no progress; the error lists the reasons.
        """
        health = self.health()
        if not health.is_live:
            raise UnhealthyError(health.reasons)

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
        """Publish a model, or JSON-able data of a schema, to a stream.

        Returns once the message is buffered; await the returned delivery to wait for the broker's
        acknowledgement. `headers` are pairs of a name and bytes or None; a name may repeat.
        `schema` ("Content:1") may be omitted for models, and for a stream that already carries a
        schema. `timestamp_ms` defaults to now. `origins` are the consumed messages that caused this
        one; plugins use them, for example, to propagate headers. `meta` is passed to plugins in the
        message's `meta`.

        Raises:
            SchemaError: no schema fits the data, or the stream carries a different one.
            MessageTooLargeError: the message is larger than the producer may send.
            DeliveryFailedError: the buffer had no room within `delivery_timeout`.
            TopicError: the topic cannot be created.
        """
        runtime = self._runtime
        if runtime is not None and not (runtime.thread == get_ident() and runtime.is_looping()):
            runtime = None  # it runs elsewhere, so that this ends in an error
        has_options = (
            headers is not None
            or schema is not None
            or partition is not None
            or timestamp_ms is not None
            or meta is not None
            or origins is not _NO_ORIGINS
        )
        if (
            runtime is not None
            and not has_options
            and type(stream_id) is str
            and (writer := runtime.model_writers.get(stream_id)) is not None
            and (record := writer.offer(data, key)) is not None
        ):
            return delivery_of(writer.batch.result, record)
        if data is None or isinstance(data, RAW_TYPES):
            raise raw_data_error(stream_id, data, schema)
        check_address(stream_id, key, partition, timestamp_ms)
        if has_options:
            check_options(schema, origins, meta)
        if runtime is None or not runtime.can_publish:
            runtime = await self._ensure_publishing()
        topic = runtime.topics.topic_of(stream_id)
        pairs = None if headers is None else copy_headers(headers)
        message = OutgoingMessage(
            stream_id, topic, data, key, schema, pairs, partition, timestamp_ms, origins, meta
        )
        delivery = None if runtime.offer is None else runtime.offer(message)
        return delivery or await self._publish(runtime, message)

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
        """Publish as `publish` does, and wait for the broker's acknowledgement.

        Raises:
            DeliveryFailedError: the message was certainly not written.
            DeliveryUnknownError: the message may or may not have been written.
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
        """Publish models, or JSON-able data, in order, and wait until all of them are acknowledged.

        `key` returns the key of a message. Messages are taken from `data` as the send buffer has
        room, so `data` may be an endless generator, and memory stays bounded. Every message gets
        the same `headers`, as with `publish`. Returns the number of acknowledged messages.

        Raises:
            DeliveryFailedError: a message was certainly not written; later ones may have been.
            DeliveryUnknownError: a message may or may not have been written.
            SchemaError: as with `publish`; the messages before the invalid one are published.
            InvalidMessageError: `data` is a single message.
        """
        check_address(stream_id, None, None, None)
        check_many(stream_id, data, key, schema)
        check_options(schema, (), None)
        runtime, deliveries = await self._ensure_publishing(), PendingDeliveries()
        topic = runtime.topics.topic_of(stream_id)
        pairs, has_options = copy_headers(headers), headers is not None or schema is not None
        async for chunk in _chunks(data):
            while True:
                writer = None if has_options else runtime.model_writers.get(stream_id)
                if writer is None:
                    left = next(((one, key and key(one)) for one in chunk), None)
                else:
                    left = writer.offer_many(chunk, key, deliveries)
                if left is None:
                    break
                one, one_key = left
                if one is None or isinstance(one, RAW_TYPES):
                    raise raw_data_error(stream_id, one, schema)
                check_address(stream_id, one_key, None, None)
                message = OutgoingMessage(stream_id, topic, one, one_key, schema, [*pairs])
                delivery = None if runtime.offer is None else runtime.offer(message)
                delivery = delivery or await self._publish(runtime, message)
                deliveries.add(delivery.batch, delivery.index, delivery.index + 1)
            deliveries.take_done()
            await asyncio.sleep(0)  # so that batches are sent in time
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
        """Publish bytes as they are: no envelope, no schema. None is a tombstone.

        The other arguments are those of `publish`.

        Raises:
            InvalidMessageError: the data is neither bytes nor None.
            MessageTooLargeError: the message is larger than the producer may send.
            DeliveryFailedError: the buffer had no room within `delivery_timeout`.
            TopicError: the topic cannot be created.
        """
        if data is not None and not isinstance(data, bytes):
            raise InvalidMessageError(
                f"raw_publish to {stream_id} got {type(data).__name__}, not bytes; "
                "use publish() for models and JSON-able data",
                topic=stream_id,
            )
        check_address(stream_id, key, partition, timestamp_ms)
        check_options(None, origins, meta)
        runtime = await self._ensure_publishing()
        topic, pairs = runtime.topics.topic_of(stream_id), copy_headers(headers)
        message = OutgoingMessage(
            stream_id, topic, data, key, None, pairs, partition, timestamp_ms, origins, meta
        )
        return await self._publish(runtime, message)

    async def _publish(self, runtime: Runtime, message: OutgoingMessage) -> Delivery:
        try:
            return await runtime.publish(message) or self._raise_no_result()
        except Exception as error:
            self.plugins.note_raiser(error)
            raise

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
        """Write a record unchanged, without the layers of any plugin; observers see it.

        For dead letters, replays, relays and mirrors: the record is written as it was read, and no
        header is added. `topic` is the full name, including the prefix; the topic is created on
        first use. A `value` of None is a tombstone. `headers` are written as with `publish`. Call
        it on the application's event loop; it never starts the application.

        Raises:
            NotRunningError: the application is not running.
            InvalidMessageError: the value is neither bytes nor None.
            KafkaeskError: as with `publish`.
        """
        runtime = self._runtime
        if runtime is None or not runtime.is_open:
            raise NotRunningError(f"nothing is written to {topic}: the application is not running")
        check_loop(runtime.loop, "forward()")
        check_address(topic, key, partition, timestamp_ms)
        if value is not None and not isinstance(value, bytes):
            raise InvalidMessageError(
                f"forward to {topic} got {type(value).__name__}, not bytes; "
                "use publish() for models and JSON-able data",
                topic=topic,
            )
        stream, pairs = runtime.topics.stream_of(topic) or topic, copy_headers(headers)
        message = OutgoingMessage(stream, topic, value, key, None, pairs, partition, timestamp_ms)
        if not runtime.can_publish:
            await runtime.start_publisher()
        return await runtime.publisher.send(message)  # the chain without layers

    async def ensure_topic(
        self,
        topic: str,
        *,
        partitions: int | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> int | None:
        """Create a topic unless it exists; return its number of partitions.

        `topic` is the full name, including the prefix; `configs` are Kafka's topic settings, such
        as `{"cleanup.policy": "compact"}`. An existing topic is never altered. Returns None if the
        brokers create topics only on first use, as `embedded://` does.

        Raises:
            NotRunningError: the application is not running.
            TopicError: the topic cannot be created, or `create_topics=False` forbids it.
            AuthorizationError: the application may neither describe nor create the topic.
            BrokerUnreachableError: no broker answered within `start_timeout`.
        """
        runtime = self._runtime
        if runtime is None or not runtime.is_open:
            raise NotRunningError(f"topic {topic} is not created: the application is not running")
        check_loop(runtime.loop, "ensure_topic()")
        await runtime.topics.ensure(topic, partitions=partitions, configs=configs)
        facts = runtime.topics.facts(topic)
        return None if facts is None else facts.partitions

    async def _ensure_publishing(self) -> Runtime:
        """Return the open runtime; start its publisher if needed."""
        runtime = await self._ensure_running()
        runtime.note_thread()
        if not runtime.can_publish:
            await runtime.start_publisher()
        return runtime

    def _raise_no_result(self) -> NoReturn:
        raise make_no_result_error("wrap_publish", self.plugins.layers("wrap_publish"))

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
        """Publish a plugin's own message; no layer and no observer of any plugin sees it.

        For messages such as log lines: they get no spans, no inherited headers and no validation.
        `data` is a complete envelope of `schema` ("Content:1"), which must be registered. Call it
        on the application's event loop; it never starts the application.

        Raises:
            NotRunningError: the application is not running.
            UnknownSchemaError: the schema is not registered.
            SchemaConflictError: the stream carries another schema.
            KafkaeskError: as with `publish`.
        """
        runtime = self._runtime
        if runtime is None or not runtime.is_open:
            raise NotRunningError(
                f"nothing is published to {stream_id}: the application is not running"
            )
        check_loop(runtime.loop, "publish_internal()")
        check_address(stream_id, key, None, timestamp_ms)
        topic = runtime.topics.topic_of(stream_id)
        runtime.topics.claim(topic, self._schemas.find(schema, topic).id)
        pairs = copy_headers(headers)
        message = OutgoingMessage(stream_id, topic, data, key, schema, pairs, None, timestamp_ms)
        message.is_internal = True
        if not runtime.can_publish:
            await runtime.start_publisher()
        return await runtime.publisher.send(message)  # the chain without layers

    async def flush(self) -> None:
        """Wait until every buffered message is acknowledged or has failed."""
        check_loop(self.loop, "flush()")
        if self._runtime is not None and self._runtime.can_publish:
            await self._runtime.publisher.flush()

    # --- lifecycle

    async def initialize(self) -> None:
        """Load plugins, check the configuration, connect, create topics; undo a failed start.

        Idempotent, and safe to call from several tasks at once.

        Raises:
            ConfigurationError: a setting, a handler or a schema is invalid.
            PluginError: a plugin cannot be loaded.
            BrokerError: no broker could be reached within `start_timeout`, or a broker refused the
                connection.
        """
        check_loop(self.loop, "initialize()")
        async with self._transition.begin("start"):
            if self._runtime is None:
                await self._start()

    async def _start(self) -> None:
        settings = self.settings
        settings.check()
        self._prepare(settings)
        published = resolve_publications(self.publications, self._schemas)
        from .runtime import Runtime  # the engine: a third of this package, for a start alone

        runtime = Runtime(
            self, settings, self.plugins, self._schemas, self._event_handlers, published
        )
        self._runtime = runtime
        try:
            await runtime.start()
        except BaseException:
            self._runtime = None
            raise

    def _prepare(self, settings: Settings | None = None) -> None:
        """Load plugins, call their `declare` hooks, and bind all handlers."""
        self.load_plugins()
        self._let_plugins_declare()
        self._bind(settings or self.settings)

    def _let_plugins_declare(self) -> None:
        """Mount one router for each plugin that declares; they replace those of the last start."""
        while self._plugin_routers:
            self._unmount(self._plugin_routers.pop())

        def mount() -> Router:
            router = Router()
            self.mount(router)
            self._plugin_routers.append(router)
            return router

        self._is_declaring = True
        try:
            self.plugins.declare(mount, self)
        finally:
            self._is_declaring = False

    def _bind(self, settings: Settings) -> None:
        """Bind the handlers declared so far."""
        from .consumption import Groups  # with the engine, as above

        self._groups = Groups(
            self,
            self._publish_of_handler,
            self._schemas,
            self.plugins,
            self._subscriptions,
            settings,
        )

    async def _publish_of_handler(self, *arguments: Any, **options: Any) -> Delivery:
        """Publish for a handler; one that outlived its run must not restart the application."""
        if self._runtime is None:
            raise NotRunningError(
                "the application has stopped, so this handler can no longer publish"
            )
        return await self.publish(*arguments, **options)

    async def finalize(self) -> None:
        """Stop consuming, call the "finalize" handlers, deliver buffered messages, disconnect.

        Idempotent. Waits for a start in progress, and undoes it.

        Raises:
            NotRunningError: a handler, or what starts or stops the application, called this; it
                would wait for itself.
        """
        check_loop(self.loop, "finalize()")
        consumption = None if self._runtime is None else self._runtime.consumption
        if consumption is not None and consumption.is_run_by(asyncio.current_task()):
            raise NotRunningError(
                "a handler cannot finalize its application, which waits for the handler to end; "
                "await app.stop() there, and finalize() where consume_forever() has returned"
            )
        async with self._transition.begin("stop"):
            runtime = self._runtime
            if runtime is not None:
                try:
                    await runtime.stop()
                finally:
                    self._runtime = None
                    self._consumes, self._consuming_failed = False, None
                    self._asked.clear()

    def _start_patience(self) -> float:
        """Return the seconds that a task of the start may wait for its end."""
        return _HANDLERS_SECONDS + (self._runtime.settings.start_timeout if self._runtime else 0)

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

    async def _ensure_running(self) -> Runtime:
        runtime = self._runtime
        check_loop(self.loop, "publishing or consuming")
        if runtime is None or not runtime.is_open:
            await self.initialize()
            runtime = self._runtime
        if runtime is None:
            raise NotRunningError("the application was stopped while it started")
        return runtime

    # --- consume

    def consume_for(
        self, num_messages: int, *, seconds: float | None = None
    ) -> Coroutine[Any, Any, int]:
        """Consume until `num_messages` are handled or skipped, or `seconds` have passed.

        Returns the number of messages; it may exceed `num_messages`, because handlers run
        concurrently. A `stop()` after this call takes effect even before the coroutine is awaited.

        Raises:
            HandlerError: a handler failed, and its `on_error` stops the application.
            ConfigurationError: an argument is not a positive number.
        """
        if not is_count(num_messages):
            raise ConfigurationError(f"consume_for({num_messages!r}): give 1 message or more")
        if seconds is not None and not (is_number(seconds) and seconds > 0):
            raise ConfigurationError(f"consume_for(seconds={seconds!r}): give more than 0, or None")
        return self._consume_for(num_messages, seconds, self._stop_requests)

    async def _consume_for(
        self, num_messages: int, seconds: float | None, stop_requests: int
    ) -> int:
        consumed = 0

        def count(_: HandlerResult) -> None:
            nonlocal consumed
            consumed += 1
            if consumed >= num_messages and runtime.consumption is not None:
                runtime.consumption.request_stop()

        runtime = await self._ensure_running()
        if stop_requests == self._stop_requests:
            await self._consume(runtime, count, seconds)
        return consumed

    def consume_forever(self) -> Coroutine[Any, Any, None]:
        """Consume until `stop()`; a stop takes effect even before the coroutine is awaited.

        Raises:
            HandlerError: a handler failed, and its `on_error` stops the application.
            BrokerError: the application cannot join a group, or cannot keep its membership.
        """
        asked = object()
        self._asked.add(asked)
        return self._consume_forever(self._stop_requests, asked)

    async def _consume_forever(self, stop_requests: int, asked: object) -> None:
        try:
            self._transition.check_endless()
            runtime = await self._ensure_running()
        finally:
            self._asked.discard(asked)
        is_stopped = stop_requests != self._stop_requests
        is_refused = runtime.is_stopping or runtime.consumption is not None
        if is_stopped or not is_refused:  # what is refused changes nothing
            self._consumes, self._consuming_failed = True, None
        if is_stopped:
            return
        try:
            await self._consume(runtime, None, None)
        except Exception as error:
            if not is_refused and runtime.consumption is None:  # else another run goes on
                self._consuming_failed = error
            raise

    async def _consume(
        self, runtime: Runtime, count: Callable[[HandlerResult], None] | None, seconds: float | None
    ) -> None:
        consumption = runtime.begin_consumption(partial(self._groups.consumers, runtime, count))
        self._apply_pauses()
        try:
            await consumption.run(start_timeout=runtime.settings.start_timeout, seconds=seconds)
        finally:
            await runtime.stop_consuming()
            self._groups.end_threads()
        failure = consumption.failure()
        if failure is not None:
            raise failure

    async def stop(self) -> None:
        """Stop consuming: fetch no more, finish running handlers, commit, leave the groups.

        Idempotent, and safe to call at any time and from several tasks. `consume_forever` returns,
        even if the application is still starting. In a running handler, and in a task that it has
        started, the call only requests the stop and returns at once, because the stop waits for the
        handler, which may wait for its task.
        """
        self._stop_requests += 1
        runtime = self._runtime
        check_loop(self.loop, "stop()")
        if runtime is not None:
            runtime.is_stop_requested = not runtime.is_open
            consumption = runtime.consumption
            if consumption is not None and consumption.runs_caller():
                consumption.request_stop()
            else:
                await runtime.stop_consuming()

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
        """Handle one message without Kafka, with all layers, and return the result.

        For tests of handlers, and to handle a record again. `data` is encoded as `publish` does;
        bytes are used as the record's value, and None is a tombstone. `headers` are pairs of a name
        and bytes or None. `group` is required if several groups take the stream. Nothing is
        fetched, retried or committed: the result says whether the record would be done, skipped or
        retried, and its `error` says why. The application must be running if the handler publishes
        or if a plugin depends on its `lifespan`.

        Raises:
            ConfigurationError: an argument is not valid for a record.
            SubscriptionError: no handler takes the stream, or several handlers do.
            SchemaError: the data satisfies no schema.
        """
        check_loop(self.loop, "handle()")
        check_address(stream_id, key, partition, timestamp_ms)
        if not (is_count(attempt) and (offset == 0 or is_count(offset))):
            raise ConfigurationError(
                f"handle(offset={offset!r}, attempt={attempt!r}): give an offset of 0 or more, and "
                "an attempt of 1 or more"
            )
        if self._runtime is None:
            self._prepare()
        place = TopicPartition(self.settings.topic_prefix + stream_id, partition)
        message = OutgoingMessage(
            stream_id, stream_id, data, key, schema, copy_headers(headers), partition
        )
        from .consumer.local import encode_locally, local_record

        value = encode_locally(self._schemas, message, self.plugins.codec)
        record = local_record(place, offset, timestamp_ms, key, value, message.headers)
        return await self._groups.handle(record, stream_id, group, attempt)

    async def pause(
        self,
        group: str | None = None,
        streams: Sequence[str] | str | None = None,
        reason: str = "",
    ) -> None:
        """Stop starting handlers: for a group, for streams (names or fnmatch patterns), or for all.

        Returns at once; running handlers finish. Polling and committing continue, so the group
        keeps its partitions. `health()` lists the paused streams and the reasons: the application
        is degraded, but live and ready. A pause may begin before the application consumes, and
        lasts until `resume()`. At a stop or a rebalance, the records that the pause holds back are
        released and redelivered.

        Raises:
            ConfigurationError: nothing is subscribed in this group, or an argument is wrong.
        """
        check_loop(self.loop, "pause()")
        self._check_group("pause", group)
        self._pauses.pause(group, streams, reason)
        self._apply_pauses()

    async def resume(
        self, group: str | None = None, streams: Sequence[str] | str | None = None
    ) -> None:
        """End a pause: of a group, of streams (names or fnmatch patterns), or every pause.

        The last call that covers a stream decides: after `pause()`, `resume("billing")` resumes
        only the group "billing".

        Raises:
            ConfigurationError: nothing is subscribed in this group, or an argument is wrong.
        """
        check_loop(self.loop, "resume()")
        self._check_group("resume", group)
        self._pauses.resume(group, streams)
        self._apply_pauses()

    def _check_group(self, called: str, group: str | None) -> None:
        known = {subscription.group for subscription in self._subscriptions}
        if group is not None and group not in known:
            raise ConfigurationError(
                f"{called}(group={group!r}): nothing is subscribed in this group"
                f"{did_you_mean(str(group), known)} (known: {', '.join(sorted(known)) or 'none'})"
            )

    def _apply_pauses(self) -> None:
        consumption = None if self._runtime is None else self._runtime.consumption
        for group in consumption.groups if consumption is not None else ():
            group.pause(self._pauses)


async def _chunks(data: Iterable[Data] | AsyncIterable[Data]) -> AsyncIterator[Iterator[Data]]:
    """Yield the messages that can be taken without waiting."""
    if isinstance(data, AsyncIterable):
        async for one in data:
            yield iter((one,))
    else:
        rest = iter(data)
        for one in rest:
            yield chain((one,), islice(rest, _CHUNK - 1))

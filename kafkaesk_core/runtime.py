"""One run of an application: starts and stops its connections, chains and topics in order."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict
from functools import partial
from threading import get_ident
from typing import Any
from weakref import WeakSet

from .app_protocol import App
from .bootstrap import Bootstrap, open_bootstrap
from .consumer.group import GroupConsumer
from .consumption import Consumption
from .delivery import Delivery
from .errors import BrokerUnreachableError, NotRunningError
from .kafka.admin import Admin
from .kafka.producer import Producer
from .message import OutgoingMessage
from .plugins.manager import Plugins
from .publisher.model_writer import ModelWriter
from .publisher.publisher import Publisher, Undelivered
from .router import EventHandler
from .schema.registry import SchemaRegistration, Schemas
from .settings import Settings
from .shutdown import Phase, Shutdown
from .status import Health, Status
from .tasks import finish
from .topics import Topics

__all__ = ["Runtime"]

logger = logging.getLogger("kafkaesk.app")

CONNECT_PAUSE = 1.0
CLOSE_TIMEOUT = 3.0


class Runtime:
    """One run of an application, from start to stop; the stop ends the parts in reverse order."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        plugins: Plugins,
        schemas: Schemas,
        events: Mapping[str, Sequence[EventHandler]],
        published: Mapping[str, SchemaRegistration],
    ) -> None:
        self._app = app
        self.settings = settings
        self._plugins = plugins
        self._schemas = schemas
        self._events = events
        self._published = published
        self._stack = AsyncExitStack()
        self.loop = asyncio.get_running_loop()
        # Asked together, they cost half of get_running_loop(), which asks the system for its pid.
        self.is_looping = self.loop.is_running
        self.note_thread()
        _runtimes.add(self)
        self.shutdown = Shutdown(settings.shutdown_timeout)
        self.consumption: Consumption | None = None
        self.is_open = False
        self.is_started = False
        self.is_stopping = False
        self.is_stop_requested = False  # during the start
        self._awaited = ""  # by the start
        self.can_publish = False
        self.servers: tuple[str, ...] = ()
        self.model_writers: Mapping[str, ModelWriter] = {}
        """The fast paths by stream, for messages without options while no plugin sees them."""
        self._encode: Callable[[OutgoingMessage], bytes | None]
        self.publish: Callable[[OutgoingMessage], Awaitable[Delivery]]
        self.offer: Callable[[OutgoingMessage], Delivery | None] | None
        """Publishes like `publish`, or returns None if the message would wait; None with layers."""

    def note_thread(self) -> None:
        """Note the thread of the event loop; a loop may be moved to another thread."""
        self.thread = get_ident()

    # --- start

    async def start(self) -> None:
        """Connect, enter lifespans, activate schemas, call the "initialize" handlers.

        Raises:
            KafkaeskError: a step failed; the earlier steps were undone.
        """
        try:
            await self._start()
        except BaseException as error:
            try:
                await self.stop()
            except asyncio.CancelledError:
                if isinstance(error, asyncio.CancelledError):
                    raise
                # The start has failed before its caller cancelled it: report the failure.
                raise error  # noqa: B904
            raise

    async def _start(self) -> None:
        if self.settings.kafka_api_version != "auto":
            logger.warning(
                "kafka_api_version %r has no effect: the clients negotiate versions",
                self.settings.kafka_api_version,
            )
        await self._enter_lifespans(early=True)
        self._awaited = f"connecting to {', '.join(self.settings.kafka_servers) or 'a broker'}"
        opening = open_bootstrap(self.settings)
        bootstrap = await opening.__aenter__()
        self._leave_at_the_end("closing the connection to the brokers", "disconnect", opening)
        self.servers = bootstrap.servers
        self.settings = self.settings.over(bootstrap.kafka_settings)
        admin = await self._connect(bootstrap)
        self._stack.push_async_callback(self._disconnect, admin)
        settings = self.settings
        self.topics = Topics(
            settings.topic_prefix,
            admin,
            create=settings.create_topics,
            create_on_use=not bootstrap.can_create_topics,
            partitions=settings.partitions,
            replication_factor=settings.replication_factor,
            timeout=settings.start_timeout,
        )
        self._stack.push_async_callback(self.topics.stop)
        self.topics.on_created.append(self._topic_created)
        self.publisher = self._make_publisher(bootstrap)
        self._stack.push_async_callback(self._stop_publisher)
        self._awaited = ""
        await self._open()
        self.is_started = True

    def _make_publisher(self, bootstrap: Bootstrap) -> Publisher:
        settings, codec = self.settings, self._plugins.codec
        self._encode = self._schemas.encoding(
            self.topics, validate=settings.validate_published, codec=codec
        )
        return Publisher(
            partial(Producer, bootstrap.servers, settings.client.for_producer()),
            self.topics,
            self._encode,
            delivery_timeout=settings.delivery_timeout,
            send_buffer_bytes=settings.send_buffer_bytes,
            encoders=None if codec else self._schemas.encoders,
            validates=settings.validate_published,
            registration_of=self._registration_of,
        )

    async def _open(self) -> None:
        """Enter the plugins' lifespans; from now on messages may be published."""
        await self._enter_lifespans(early=False)
        self.compile()
        self.is_open = True
        active = [info.name for info in self._plugins.list() if info.status == "active"]
        logger.info(
            "connected to %s; topic prefix %r; plugins: %s",
            ", ".join(self.servers),
            self.settings.topic_prefix,
            ", ".join(active) or "none",
        )
        for stream, registration in self._published.items():
            self.topics.declare(self.topics.topic_of(stream), registration.id)
        for registration in self._schemas:
            await self._activate_named(registration)
        for handler in self._events.get("initialize", ()):
            await handler()
        self._stack.push_async_callback(self._finalize)

    async def _enter_lifespans(self, *, early: bool) -> None:
        for lifespan in self._plugins.lifespans(self._app, early=early):
            await lifespan.__aenter__()
            what = f"the lifespan of plugin {lifespan.plugin!r}"
            self._leave_at_the_end(what, "plugins", lifespan)

    async def _activate_named(self, registration: SchemaRegistration) -> None:
        try:
            await self._activate(registration)
        except Exception as error:
            raise self._plugins.name_failure(error)  # noqa: B904 - it has its cause

    async def _connect(self, bootstrap: Bootstrap) -> Admin:
        """Connect to a broker; retry until `start_timeout` is over."""
        timeout = self.settings.start_timeout
        deadline = self.loop.time() + timeout
        reported = ""
        while True:
            admin = Admin(bootstrap.servers, self.settings.client.for_admin())
            left = max(deadline - self.loop.time(), 0.1)
            try:
                await admin.start(left)
            except BrokerUnreachableError as error:
                if self.loop.time() + CONNECT_PAUSE >= deadline:
                    raise BrokerUnreachableError(
                        f"{error}; gave up after {timeout:g} s (start_timeout)",
                        servers=bootstrap.servers,
                    ) from error
                if str(error) != reported:
                    reported = self._awaited = str(error)
                    logger.warning("%s; retrying for another %.0f seconds", reported, left)
                await asyncio.sleep(CONNECT_PAUSE)
            else:
                return admin

    def _leave_at_the_end(
        self, what: str, phase: Phase, entered: AbstractAsyncContextManager[Any]
    ) -> None:
        async def leave() -> None:
            await self._bounded(what, phase, entered.__aexit__(None, None, None))

        self._stack.push_async_callback(leave)

    async def start_publisher(self) -> None:
        """Connect a producer for the first message; consuming alone needs no Write permission.

        Raises:
            BrokerError: no broker could be reached within `start_timeout`, or the broker refused
                the connection.
        """
        await self.publisher.start(self.settings.start_timeout)
        self.can_publish = True

    def compile(self) -> None:
        """Build all chains from the current plugins."""
        plugins, app = self._plugins, self._app
        publisher = self.publisher
        self.publish = plugins.chain(
            "wrap_publish", self._deliver(), skip=plugins.of_stage("deliver"), app=app
        )
        self.offer = publisher.offer if self.publish == publisher.send else None
        self.publisher.on_published = plugins.notifier("published", app=app)
        is_seen = publisher.on_published is not None or self.offer is None
        publisher.forget_model_writers()
        self.model_writers = {} if is_seen else publisher.model_writers
        self._activate = plugins.chain("wrap_schema", self._create_streams, app=app)
        for group in self.consumption.groups if self.consumption else ():
            group.compile(plugins, app)

    def _deliver(self) -> Callable[[OutgoingMessage], Awaitable[Delivery]]:
        """Return the call after the layers: the encoding, the layers behind it, the sending."""
        send, plugins = self.publisher.send, self._plugins
        outer = frozenset(plugins.layers("wrap_publish")) - plugins.of_stage("deliver")
        deliver = plugins.chain("wrap_publish", send, skip=outer, app=self._app)
        if deliver == send:
            self.publisher.encode_itself()
            return send
        encode = self._encode
        self.publisher.encode_before()

        async def encode_and_deliver(message: OutgoingMessage) -> Delivery:
            message.encoded = encode(message)
            return await deliver(message)

        return encode_and_deliver

    async def _create_streams(self, registration: SchemaRegistration) -> None:
        topics = [self.topics.topic_of(stream) for stream in registration.streams]
        for topic in topics:
            self.topics.declare(topic, registration.id)
        await asyncio.gather(*(self.topics.ensure(topic, registration) for topic in topics))

    def _topic_created(self, topic: str) -> None:
        for group in self.consumption.groups if self.consumption else ():
            group.refresh(topic)

    def _registration_of(self, message: OutgoingMessage) -> SchemaRegistration | None:
        return None if message.schema is None else self._schemas.get(message.schema)

    # --- consume

    def begin_consumption(self, make_groups: Callable[[], Sequence[GroupConsumer]]) -> Consumption:
        """Prepare to consume with new groups, which `make_groups` returns.

        Raises:
            NotRunningError: the application is already consuming, or is stopping.
        """
        if self.is_stopping:
            raise NotRunningError("the application is stopping; it consumes no more")
        if self.consumption is not None:
            raise NotRunningError(
                "this application is already consuming; it consumes once at a time"
            )
        groups = make_groups()
        for group in groups:
            group.compile(self._plugins, self._app)
        self.consumption = Consumption(groups)
        self.shutdown.reset()
        if self.is_stop_requested:
            self.consumption.request_stop()
            self.is_stop_requested = False
        return self.consumption

    async def stop_consuming(self) -> None:
        """Drain, commit and leave all groups; do nothing without groups.

        A cancelled caller still waits for the end, which has a time limit, because handlers may
        publish until then.
        """
        consumption = self.consumption
        if consumption is not None:
            await finish(consumption.stop(self.shutdown))
            if self.consumption is consumption:
                self.consumption = None

    # --- stop

    async def stop(self) -> None:
        """End everything within `shutdown_timeout`: consumers, finalize, lifespans, producer.

        The time of `stop_consuming` counts towards this limit.
        """
        self.is_stopping = True
        with self.shutdown:
            try:
                await self.stop_consuming()
            finally:
                await self._stack.aclose()
                if self.is_open:
                    logger.info("stopped; disconnected from %s", ", ".join(self.servers))
                self.is_open = False

    # --- state

    def status(self) -> Status:
        """A snapshot of the whole application."""
        groups = self.consumption.groups if self.consumption else ()
        return Status(
            state="running" if self.is_started else "starting",
            groups=tuple(group.health.status() for group in groups),
            published=asdict(self.publisher.counts) if self.can_publish else {},
            plugins=self._plugins.reports(self._app),
        )

    def health(self, *, consumes: bool, failed: Exception | None) -> Health:
        """Return the health: live unless progress has stopped, ready while all groups are joined.

        The application is not ready before the end of its start, nor from the beginning of a stop,
        when its partitions go to other members. With `consumes`, it was asked to consume, and is
        ready only while it does. An application that only publishes is ready after the start. If
        consuming has `failed` and the process is still running, the application is not live and
        should be restarted.
        """
        if not self.is_started:
            awaited = f": {self._awaited}" if self._awaited else ""
            return Health(True, False, (f"the application is starting{awaited}",))
        groups = self.consumption.groups if self.consumption else ()
        problems = [problem for group in groups for problem in group.health.problems()]
        problems += [f"{group.group}: failed" for group in groups if group.failure.done()]
        problems += [] if failed is None else [f"consuming has failed: {failed}"]
        hindrances = [reason for group in groups for reason in group.health.hindrances()]
        is_joined = all(group.health.is_joined for group in groups)
        is_idle = consumes and self.consumption is None
        is_stopping = self.consumption is not None and self.consumption.is_stopping
        is_stopping |= self.is_stopping
        return Health(
            is_live=not problems,
            is_ready=is_joined and not is_stopping and not is_idle and not problems,
            reasons=(
                *problems,
                *(("the application is stopping",) if is_stopping else ()),
                *(("nothing is consumed now",) if is_idle and not is_stopping else ()),
                *hindrances,
                *(self.publisher.health() if self.can_publish else ()),
                *self._plugins.hindrances(self._app),
            ),
        )

    async def _finalize(self) -> None:
        for handler in self._events.get("finalize", ()):
            await self._bounded(f"the finalize handler {handler!r}", "finalize", handler())

    async def _stop_publisher(self) -> None:
        report = asyncio.ensure_future(self.publisher.stop(self.shutdown.left("flush")))
        try:
            await finish(report)
        finally:
            self._report_undelivered(report.result())

    async def _disconnect(self, admin: Admin) -> None:
        await finish(admin.close(min(CLOSE_TIMEOUT, self.shutdown.left("disconnect"))))

    def _report_undelivered(self, report: Undelivered) -> None:
        for topic, count in report.failed.items():
            logger.error("topic %s: %d messages were not delivered", topic, count)
        for topic, count in report.unknown.items():
            logger.error("topic %s: %d messages may or may not have been delivered", topic, count)

    async def _bounded(self, what: str, phase: Phase, work: Awaitable[Any]) -> None:
        """Wait for one part of a stop within its time limit, and log its failure."""
        seconds = self.shutdown.left(phase)
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            logger.exception(
                "%s did not end within %.1f seconds; the stop continues, within a shutdown_timeout "
                "of %g seconds",
                what,
                seconds,
                self.shutdown.timeout,
            )
        except Exception:
            logger.exception("%s failed", what)


_runtimes: WeakSet[Runtime] = WeakSet()


def _forget_threads() -> None:
    """In a forked process, forget the thread and the loop, which do not run there."""
    for runtime in _runtimes:
        runtime.thread = 0


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_threads)

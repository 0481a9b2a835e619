"""The consumer groups of an application: creates, starts and stops them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .app_protocol import App
from .consumer.crashes import Turn
from .consumer.group import GroupConsumer
from .consumer.local import LocalMessage, commit_locally, handle_locally
from .errors import ConfigurationError, SubscriptionError
from .handlers import (
    ArgumentProviders,
    BatchBinding,
    Binding,
    ConsumerFacade,
    Publish,
    Subscriber,
    bind,
)
from .loop_watch import LoopWatch
from .message import IncomingMessage
from .offsets import HandlerResult
from .plugins.contract import did_you_mean
from .plugins.manager import Plugins
from .plugins.options import check_options, check_schema_options
from .router import Subscription
from .schema.registry import Schemas
from .settings import Settings
from .shutdown import Shutdown
from .threads import HandlerThreads
from .topic_names import TOPIC_NAME_RULE, is_topic_name

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from .runtime import Runtime

__all__ = ["Consumption", "Groups"]

logger = logging.getLogger("kafkaesk.app")


class Groups:
    """Binds every handler once, and creates the consumers of each run.

    Raises:
        ConfigurationError: consumer settings contradict each other.
        SubscriptionError: a handler's annotation cannot be resolved, a parameter cannot be filled,
            or a setting of the subscription contradicts one of the application.
    """

    def __init__(
        self,
        app: App,
        publish: Publish,
        schemas: Schemas,
        plugins: Plugins,
        subscriptions: Iterable[Subscription],
        settings: Settings,
    ) -> None:
        self._app = app
        self._publish = publish
        self._plugins = plugins
        self._bindings: dict[str, dict[Subscription, Binding | BatchBinding]] = {}
        self._consumers: dict[str, GroupConsumer] = {}
        self._threads = HandlerThreads()
        known_plugins = {info.name for info in plugins.list()}
        for registration in schemas:
            check_schema_options(registration, plugins)
        for subscription in subscriptions:
            _check_overrides(subscription, settings)
            _check_skipped(subscription, known_plugins)
            _check_literals(subscription, settings.topic_prefix)
            bindings = self._bindings.setdefault(subscription.group, {})
            check_options(subscription, plugins)
            _check_alone(subscription, bindings, plugins.claimed_streams)
            bindings[subscription] = bind(
                subscription,
                decoder=_decoder_for(subscription, schemas, plugins),
                known=self._known(subscription.group),
                claim=plugins.bind_parameter,
                threads=self._threads,
            )
        if self._bindings:
            settings.check_handover()
        for group, bindings in self._bindings.items():
            _settings_of(group, bindings, settings)

    def consumers(
        self, runtime: Runtime, on_finished: Callable[[HandlerResult], None] | None
    ) -> list[GroupConsumer]:
        """Create one consumer per group, without starting them."""
        self._consumers = {
            group: GroupConsumer(
                group,
                bindings,
                topics=runtime.topics,
                settings=_settings_of(group, bindings, runtime.settings),
                servers=runtime.servers,
                find_raiser=self._plugins.find_raiser,
                on_finished=on_finished,
                claimed_streams=self._plugins.claimed_streams,
            )
            for group, bindings in self._bindings.items()
        }
        if runtime.settings.count_crashes:
            turn = Turn()
            for consumer in self._consumers.values():
                consumer.count_crashes(turn)
        return list(self._consumers.values())

    def end_threads(self) -> None:
        """Let the threads of `def` handlers end."""
        self._threads.close()

    async def handle(
        self, record: ConsumerRecord, stream: str, group: str | None, attempt: int
    ) -> HandlerResult:
        """Handle one record without Kafka, with the handler that takes the stream.

        Raises:
            SubscriptionError: no handler takes the stream, or several handlers do.
        """
        claimed = self._plugins.claimed_streams
        found = [
            (subscription, binding)
            for bindings in self._bindings.values()
            for subscription, binding in bindings.items()
            if group in (None, subscription.group) and subscription.matches(stream, claimed)
        ]
        if len(found) != 1:
            groups = ", ".join(sorted(subscription.group for subscription, _ in found))
            of_group = "" if group is None else f" in group {group!r}"
            raise SubscriptionError(
                f"stream {stream!r} is taken by the groups {groups}; say which with group="
                if found
                else f"no handler takes the stream {stream!r}{of_group}; subscribe one to it"
            )
        ((subscription, binding),) = found
        skip = subscription.skip_plugins
        constants: dict[str, Any] = {"subscription": subscription, "app": self._app}
        return await handle_locally(
            subscription,
            binding,
            record,
            stream,
            attempt,
            wrap=lambda hook, call: self._plugins.chain(hook, call, skip=skip, **constants),
            find_raiser=self._plugins.find_raiser,
        )

    def _known(self, group: str) -> ArgumentProviders:
        """Return the arguments that a handler can request by a parameter's name."""
        return ArgumentProviders(
            one={
                "schema": lambda message: message.schema,
                "record": lambda message: message.record,
                "app": lambda _: self._app,
                "subscriber": lambda message: self._subscriber(group, (message,)),
            },
            batch={
                "app": lambda _: self._app,
                "subscriber": partial(self._subscriber, group),
            },
        )

    def _subscriber(self, group: str, messages: Sequence[IncomingMessage]) -> Subscriber:
        if isinstance(messages[0], LocalMessage):
            local = ConsumerFacade(messages, commit_locally, None)
            return Subscriber(messages, group, self._publish, local)
        consumer = self._consumers[group]
        facade = ConsumerFacade(messages, consumer.commit_through, consumer.raw)
        return Subscriber(messages, group, self._publish, facade)


def _decoder_for(
    subscription: Subscription, schemas: Schemas, plugins: Plugins
) -> Callable[[Any], Callable[[IncomingMessage], Any]]:  # of data of any type
    """Return the function that creates the decoder for a handler's annotation."""
    return partial(
        schemas.decoder,
        envelope=subscription.envelope,
        upcasts=partial(plugins.upcasts, subscription=subscription),
        codec=plugins.codec,
    )


def _check_overrides(subscription: Subscription, settings: Settings) -> None:
    try:
        settings.with_overrides(subscription.overrides)
    except ConfigurationError as error:
        raise SubscriptionError(f"handler {subscription.handler_name}: {error}") from error


def _check_skipped(subscription: Subscription, known: Collection[str]) -> None:
    for name in sorted(set(subscription.skip_plugins) - set(known)):
        raise SubscriptionError(
            f"handler {subscription.handler_name}: skip_plugins names {name!r}, but no plugin of "
            f"that name is installed or registered{did_you_mean(name, known)} "
            f"(known: {', '.join(sorted(known)) or 'none'})"
        )


def _check_literals(subscription: Subscription, prefix: str) -> None:
    for stream in subscription.literal_streams:
        if not is_topic_name(prefix + stream):
            raise SubscriptionError(
                f"handler {subscription.handler_name}: stream {stream!r} with the topic prefix "
                f"{prefix!r} makes {prefix + stream!r}, which cannot be a topic; {TOPIC_NAME_RULE}"
            )


def _check_alone(
    subscription: Subscription, others: Iterable[Subscription], claimed: Collection[str]
) -> None:
    """Refuse two handlers for one stream in a group: each would get only a part of the records."""
    for other in others:
        stream = subscription.shared_with(other, claimed)
        if stream is not None:
            raise SubscriptionError(
                f"stream {stream!r} is subscribed by {other.handler_name} and by "
                f"{subscription.handler_name} in group {subscription.group!r}, but a group has one "
                "handler per stream; give one of them another group"
            )


def _settings_of(group: str, subscriptions: Iterable[Subscription], settings: Settings) -> Settings:
    """Return the settings of one group; each time limit is the longest of its subscriptions."""
    own = [settings.with_overrides(subscription.overrides) for subscription in subscriptions]
    longest = {
        name: max(getattr(one, name) for one in own)
        for name in ("drain_timeout", "cancel_grace", "commit_timeout")
    }
    try:
        return settings.with_overrides(longest)
    except ConfigurationError as error:
        raise SubscriptionError(f"group {group}: {error}") from error


class Consumption:
    """Starts the groups, waits, and stops them; an error that stops one group stops all (D5)."""

    def __init__(self, groups: Sequence[GroupConsumer]) -> None:
        self.groups = tuple(groups)
        handlers = {code: name for group in groups for code, name in group.handlers.items()}
        self._watch = LoopWatch(handlers)
        self._requested = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def run(self, *, start_timeout: float, seconds: float | None = None) -> None:
        """Consume until `request_stop`, a failure, or the end of `seconds`; then stop fetching.

        Raises:
            HandlerError: a handler failed, and its subscription stops the application.
            KafkaeskError: a group could not start, or cannot continue.
        """
        self._watch.start()
        try:
            if await self._start(start_timeout):
                await self._wait(seconds)
        finally:
            self.request_stop()

    async def _start(self, timeout: float) -> bool:
        """Start all groups; return False if a stop was requested meanwhile."""
        self._starting = asyncio.create_task(self._start_groups(timeout))
        requested = asyncio.create_task(self._requested.wait())
        try:
            await asyncio.wait([self._starting, requested], return_when=asyncio.FIRST_COMPLETED)
        finally:
            requested.cancel()
            self._starting.cancel()  # no effect if it has ended
            await asyncio.wait([self._starting])
        is_cancelled = self._starting.cancelled()
        if self._requested.is_set() and not is_cancelled and (error := self._starting.exception()):
            logger.warning("consuming did not start before the stop: %s", error)
        if is_cancelled or self._requested.is_set():
            return False
        self._starting.result()
        return True

    async def _start_groups(self, timeout: float) -> None:
        starts = (group.start(timeout) for group in self.groups)
        for result in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        for group in self.groups:
            logger.info("group %s: consuming %s", group.group, ", ".join(group.streams))

    async def _wait(self, seconds: float | None) -> None:
        requested = asyncio.ensure_future(self._requested.wait())
        ends: list[asyncio.Future[Any]] = [requested, *(group.failure for group in self.groups)]
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requested.cancel()
            for group in self.groups:
                group.begin_drain()

    def is_run_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task runs a handler, so that a stop waits for it."""
        return any(group.is_run_by(task) for group in self.groups)

    def runs_caller(self) -> bool:
        """Whether the caller is a handler that runs, or a task that one has started.

        Such a handler may wait for its task, and a stop waits for the handler.
        """
        return any(group.runs_caller() for group in self.groups)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._requested.is_set()

    def request_stop(self) -> None:
        """Take no more records, and let `run` return."""
        for group in self.groups:
            group.begin_drain()
        self._requested.set()

    async def stop(self, shutdown: Shutdown) -> None:
        """Drain, commit and leave the groups, within the remaining time of `shutdown`.

        Idempotent; concurrent calls wait for the same stop.
        """
        if self._stopping is None:
            self.request_stop()
            self._stopping = asyncio.create_task(self._stop_groups(shutdown))
        await asyncio.shield(self._stopping)

    async def _stop_groups(self, shutdown: Shutdown) -> None:
        with shutdown:
            if self._starting is not None:
                await asyncio.wait([self._starting])
            try:
                results = await asyncio.gather(
                    *(group.stop(shutdown) for group in self.groups), return_exceptions=True
                )
            finally:
                self._watch.stop()
        for group, result in zip(self.groups, results, strict=True):
            if isinstance(result, Exception):
                logger.error("group %s: stopping failed", group.group, exc_info=result)

    def failure(self) -> BaseException | None:
        """The error of the first group that failed."""
        for group in self.groups:
            if group.failure.done() and not group.failure.cancelled():
                error = group.failure.exception()
                if error is not None:
                    return error
        return None

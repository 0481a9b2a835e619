"""The plugin: the layer around handlers, and the streams that it needs."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from kafkaesk_core import (
    App,
    Application,
    ConsumeBatchCall,
    ConsumeCall,
    IncomingMessage,
    KafkaeskError,
    RebalanceEvent,
    Retry,
    Subscription,
    SubscriptionError,
    hookimpl,
)

from .batches import BatchRun, as_failure
from .cluster import Cluster
from .letter import OWN_HEADERS
from .mailer import Mailer
from .places import StreamNames
from .policy import OPTION, Retries
from .recovery import Recovery, is_shutdown
from .settings import RetrySettings

__all__ = ["RetryPlugin"]

logger = logging.getLogger("kafkaesk.retry")


class RetryPlugin:
    """Retries failed records in place, and makes dead letters of those that fail for good.

    A subscription whose `on_error` is not "stop" has its own answer to failures, and is left alone
    unless it says `@retries` as well.
    """

    name = OPTION
    stage = "recover"
    claimed_headers = OWN_HEADERS
    claimed_options = frozenset({OPTION})
    Settings = RetrySettings

    def __init__(self, settings: RetrySettings | None = None) -> None:
        self.settings = settings or RetrySettings()
        self.names = StreamNames(self.settings.prefix)
        self.claimed_streams = self.names.claimed
        self._recoveries: dict[Subscription, Recovery | None] = {}
        self._mailer: Mailer | None = None

    @property
    def counts(self) -> Counter[str]:
        """Records retried, postponed ("later"), dead and deferred, of all handlers."""
        found: Counter[str] = Counter()
        for recovery in self._recoveries.values():
            if recovery is not None:
                found.update(recovery.counts)
        return found

    # --- start

    @hookimpl(optionalhook=True)
    def check_subscription(self, subscription: Subscription) -> None:
        """Refuse choices that cannot work, at the start."""
        chosen = self._chosen(subscription)
        if chosen is not None and not isinstance(chosen, Retries):
            raise SubscriptionError(
                f"handler {subscription.handler_name}: options={{'retry': ...}} is of type "
                f"{type(chosen).__name__}; give Retries(...) of kafkaesk_retry"
            )
        if chosen and chosen.later and subscription.ordering != "unordered" and not chosen.reorder:
            raise SubscriptionError(
                f"handler {subscription.handler_name}: later={chosen.later} lets later records "
                f"overtake a failed one, so that ordering={subscription.ordering!r} no longer "
                "holds for it; leave later= out, or allow that with reorder=True"
            )

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Make the topics of dead letters, so that the first failure finds them."""
        self._mailer = self._make_mailer(app)
        self._recoveries.clear()
        application = cast(Application, app)
        try:
            await self._make_topics(application)
        except KafkaeskError as error:
            logger.warning("the topics of dead letters could not be looked up: %s", error)
        yield
        self._mailer = None

    async def _make_topics(self, app: Application) -> None:
        """Make the topics of dead letters, with as many partitions as those they come from."""
        settings = app.settings
        watched = [one for one in app.subscriptions if self._takes_letters(one)]
        if not watched or not settings.create_topics or "://" in settings.kafka_servers[0]:
            return
        options = settings.client.for_admin()
        async with Cluster.connect(app.servers, options, settings.start_timeout) as cluster:
            prefix = settings.topic_prefix
            streams = {
                name.removeprefix(prefix)
                for name in await cluster.topics()
                if name.startswith(prefix)
            }
            origins = {
                self.names.dead(one.group, stream): stream
                for one in watched
                for stream in {*(s for s in streams if one.matches(s)), *one.literal_streams}
                if not self.names.is_own(stream)
            }
            found = await cluster.partitions(
                prefix + stream for pair in origins.items() for stream in pair
            )
            missing = {
                prefix + dead: found.get(prefix + stream, settings.partitions)
                for dead, stream in origins.items()
                if prefix + dead not in found
            }
            configs = {"retention.ms": str(self.settings.retention * 1000)}
            troubles = await cluster.create(missing, configs, settings.replication_factor)
        for topic, trouble in troubles.items():
            logger.warning("topic %s of dead letters cannot be made: %s", topic, trouble)

    def _takes_letters(self, subscription: Subscription) -> bool:
        retries = self._retries(subscription)
        return retries is not None and retries.over(self.settings).dead_letter

    def _chosen(self, subscription: Subscription) -> Any:  # whatever the service gave
        options = getattr(subscription, "options", None) or {}
        declared = getattr(subscription.func, "kafkaesk_options", {})
        return options.get(OPTION, declared.get(OPTION))

    def _retries(self, subscription: Subscription) -> Retries | None:
        """What holds for a subscription; None if the plugin leaves it alone."""
        chosen: Retries | None = self._chosen(subscription)
        is_dead = any(map(self.names.is_dead, subscription.streams))
        if OPTION in subscription.skip_plugins or is_dead:
            return None
        if chosen is None:
            return Retries() if subscription.on_error == "stop" else None
        return None if chosen.over(self.settings).is_off else chosen

    def _recovery(self, subscription: Subscription, app: App) -> Recovery | None:
        try:
            return self._recoveries[subscription]
        except KeyError:
            pass
        retries = self._retries(subscription)
        recovery = None
        if retries is not None:
            prefix = cast(Application, app).settings.topic_prefix
            policy = retries.over(self.settings)
            recovery = Recovery(subscription, policy, self.settings, self.names, prefix)
            recovery.needs_care = any(map(self.names.is_own, subscription.streams))
        self._recoveries[subscription] = recovery
        return recovery

    # --- one record

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription, app: App
    ) -> Any:  # what the handler returns
        """Handle a record, and decide what becomes of it if that fails."""
        recovery = self._recovery(subscription, app)
        if recovery is None:
            return await call_next(message)
        mailer = self._mailer_of(app)
        needs_care = recovery.needs_care or message.attempt > 1
        if needs_care and await recovery.is_settled(message, mailer):
            return None
        try:
            result = await call_next(message)
        except Retry:
            recovery.note_tried((message,))
            raise
        except (Exception, asyncio.CancelledError) as error:
            if is_shutdown():
                raise
            failure = as_failure(error)
        else:
            if needs_care:
                recovery.succeed((message,))
            return result
        return await recovery.fail(message, failure, mailer)

    # --- batches

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
        app: App,
    ) -> Any:  # what the handler returns
        """Handle a batch, and decide what becomes of each of its messages that fails."""
        recovery = self._recovery(subscription, app)
        if recovery is None:
            return await call_next(messages)
        return await BatchRun(recovery, call_next, self._mailer_of(app)).run(messages)

    # --- what is known of it

    @hookimpl
    def partitions_revoked(self, event: RebalanceEvent, subscription: Subscription) -> None:
        """Forget what was to be written for records that others have now."""
        recovery = self._recoveries.get(subscription)
        if recovery is not None:
            recovery.forget((one.topic, one.partition) for one in event.partitions)

    def _mailer_of(self, app: App) -> Mailer:
        if self._mailer is None:  # a message that is handled without Kafka
            self._mailer = self._make_mailer(app)
        return self._mailer

    def _make_mailer(self, app: App) -> Mailer:
        prefix = cast(Application, app).settings.topic_prefix
        return Mailer(app, prefix, self.settings.style, self.settings.retention)

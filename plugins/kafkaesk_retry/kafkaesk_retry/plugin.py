"""The plugin: the layer around handlers, and the streams for failed records."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from kafkaesk_core import ConfigurationError, hookimpl

from .cancellation import as_failure, end_task, is_shutdown
from .letter import OWN_HEADERS, SPRING_HEADERS
from .places import EMBEDDED, StreamNames
from .policy import OPTION, Retries
from .settings import RetrySettings

if TYPE_CHECKING:
    from kafkaesk_core import (
        App,
        ConsumeBatchCall,
        ConsumeCall,
        IncomingMessage,
        RebalanceEvent,
        Router,
        Subscription,
    )

    from .mailer import Mailer
    from .open_letters import OpenLetters
    from .preparation import Preparation
    from .recovery import Recovery

__all__ = ["RetryPlugin"]

_OWN = {"consumer_id", "func", "group", "pattern", "topics", "options"}
"""The fields that a subscription to waiting records does not share with the original one."""
COUNTED = ("retried", "later", "dead", "deferred")
_OFF = {OPTION: Retries(attempts=1, dead_letter=False)}


class RetryPlugin:
    """Retries failed records in place, and writes dead letters for those that fail for good.

    A subscription whose `on_error` is not "stop" handles its own failures; the plugin leaves it
    alone, unless it also has `@retries`.
    """

    name = OPTION
    stage = "recover"
    claimed_headers = OWN_HEADERS
    claimed_options = frozenset({OPTION})
    Settings = RetrySettings

    def __init__(self, settings: RetrySettings | None = None) -> None:
        self.settings = settings or RetrySettings()
        if self.settings.style == "spring":
            self.claimed_headers = OWN_HEADERS | SPRING_HEADERS
        self.names = StreamNames(self.settings.prefix)
        self.claimed_streams = self.names.claimed
        self._recoveries: dict[Subscription, Recovery | None] = {}
        self._mailer: Mailer | None = None
        self._preparation: Preparation | None = None
        self._open: OpenLetters | None = None

    @property
    def counts(self) -> Counter[str]:
        """The counts of retried, postponed ("later"), dead and deferred records of all handlers."""
        found: Counter[str] = Counter()
        for recovery in self._recoveries.values():
            if recovery is not None:
                found.update(recovery.counts)
        return found

    # --- start

    @hookimpl
    def check_subscription(self, subscription: Subscription) -> None:
        """Refuse invalid choices, at the start."""
        chosen = subscription.options.get(OPTION)
        if chosen is not None and not isinstance(chosen, Retries):
            raise ConfigurationError(
                f"options={{'retry': ...}} is of type {type(chosen).__name__}; "
                "give Retries(...) of kafkaesk_retry"
            )
        if chosen and chosen.later and subscription.ordering != "unordered" and not chosen.reorder:
            raise ConfigurationError(
                f"later={chosen.later} lets later records overtake a failed one, so that "
                f"ordering={subscription.ordering!r} no longer holds for it; leave later= out, "
                "or allow that with reorder=True"
            )

    @hookimpl
    def declare(self, router: Router, app: App) -> None:
        """Subscribe each handler to the streams in which its group's records wait."""
        from .dispatch import hand_out

        for group, subscriptions in self._by_group(app).items():
            streams = sorted({s for one in subscriptions for s in self._waiting_streams(one)})
            if not streams:
                continue
            if len(subscriptions) == 1:
                (one,) = subscriptions
                names = {field.name for field in fields(one)} - _OWN
                given = {name: getattr(one, name) for name in names}
                given["options"] = dict(one.options)
                router.subscribe_to_topics(streams, group, **given)(one.func)
            else:
                handler = hand_out(app, group)
                router.subscribe_to_topics(streams, group, ordering="key", options=_OFF)(handler)
        router.on("initialize", partial(self._prepare, app))

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Reset the state of an earlier run, create topics, and count the open letters."""
        self._mailer = self._make_mailer(app)
        self._recoveries.clear()
        interval, watching = self.settings.count_interval, None
        if interval:
            from .open_letters import OpenLetters

            self._open = OpenLetters(app, self.names, partial(self._by_group, app), interval)
            watching = asyncio.create_task(self._open.watch())
        try:
            yield
        finally:
            if watching is not None:
                await end_task(watching)
            if self._preparation is not None:
                await self._preparation.end()
            self._mailer = self._preparation = self._open = None

    def _by_group(self, app: App) -> dict[str, list[Subscription]]:
        groups: dict[str, list[Subscription]] = {}
        for subscription in app.subscriptions:
            is_own = any(map(self.names.is_own, subscription.streams))
            if not is_own and self._retries(subscription) is not None:
                groups.setdefault(subscription.group, []).append(subscription)
        return groups

    def _waiting_streams(self, subscription: Subscription) -> list[str]:
        """Return the streams in which records of this subscription wait: replayed or postponed."""
        retries = self._retries(subscription)
        if retries is None:
            return []
        policy = retries.over(self.settings)
        seconds = [*([0.0] if policy.dead_letter else []), *policy.later]
        return [self.names.later(subscription.group, one) for one in seconds]

    async def _prepare(self, app: App) -> None:
        from .preparation import Preparation

        self._preparation = Preparation(self._mailer_of(app), partial(self._topics, app))
        await self._preparation.begin()

    async def _topics(self, app: App) -> dict[str, str | None]:
        """Return the topics that failures will need, each with the topic of its records."""
        groups = self._by_group(app)
        if not groups:
            return {}
        prefix, wanted = app.settings.topic_prefix, dict[str, str | None]()
        streams = await self._existing_streams(app)
        for group, subscriptions in groups.items():
            for stream in sorted({s for one in subscriptions for s in self._waiting_streams(one)}):
                wanted[prefix + stream] = None
            for one in filter(self._takes_letters, subscriptions):
                found = {s for s in streams if one.matches(s, self.claimed_streams)}
                for stream in sorted(found | set(one.literal_streams)):
                    origin = prefix + stream if stream in streams else None
                    wanted[prefix + self.names.dead(group, stream)] = origin
        return wanted

    async def _existing_streams(self, app: App) -> set[str]:
        if _is_inside(app):
            return set()
        from kafkaesk_core import Cluster

        async with Cluster(app.settings) as cluster:
            topics = {topic.name for topic in await cluster.topics()}
        prefix = app.settings.topic_prefix
        return {topic.removeprefix(prefix) for topic in topics if topic.startswith(prefix)}

    def _takes_letters(self, subscription: Subscription) -> bool:
        retries = self._retries(subscription)
        return retries is not None and retries.over(self.settings).dead_letter

    def _retries(self, subscription: Subscription) -> Retries | None:
        """Return the choices for a subscription; None if the plugin leaves it alone."""
        chosen: Retries | None = subscription.options.get(OPTION)
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
            from .recovery import Recovery

            prefix = app.settings.topic_prefix
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
        """Handle a record; after a failure, decide on it."""
        try:  # no call while nothing fails
            recovery = self._recoveries[subscription]
        except KeyError:
            recovery = self._recovery(subscription, app)
        if recovery is None:
            return await call_next(message)
        needs_care = recovery.needs_care or message.attempt > 1
        if needs_care and await recovery.is_settled(message, self._mailer_of(app)):
            return None
        try:
            result = await call_next(message)
        except (Exception, asyncio.CancelledError) as error:
            if is_shutdown():
                raise
            failure = as_failure(error)
        else:
            if needs_care:
                recovery.succeed((message,))
            return result
        return await recovery.fail(message, failure, self._mailer_of(app))

    # --- batches

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
        app: App,
    ) -> Any:  # what the handler returns
        """Handle a batch; decide on each failed message."""
        recovery = self._recovery(subscription, app)
        if recovery is None:
            return await call_next(messages)
        from .batches import BatchRun

        return await BatchRun(recovery, call_next, self._mailer_of(app)).run(messages)

    # --- what is known of it

    @hookimpl
    def partitions_revoked(self, event: RebalanceEvent, subscription: Subscription) -> None:
        """Forget unsent records of partitions that other members have now."""
        recovery = self._recoveries.get(subscription)
        if recovery is not None:
            recovery.forget((one.topic, one.partition) for one in event.partitions)
            self._keep_refusals()

    def _keep_refusals(self) -> None:
        """Forget the refusals of streams that nothing waits for any more."""
        waiting = [one.unsent_streams for one in self._recoveries.values() if one is not None]
        if self._mailer is not None:
            self._mailer.keep(set().union(*waiting))

    def _forget_passed(self, app: App) -> None:
        """Forget unsent records that the application has passed over with a seek."""
        for group in app.status().groups:
            committed = {(one.topic, one.partition): one.committed or 0 for one in group.partitions}
            for subscription, recovery in self._recoveries.items():
                if recovery is not None and subscription.group == group.group:
                    recovery.forget_passed(committed)
        self._keep_refusals()

    @hookimpl
    def health(self, app: App) -> Iterable[str]:
        """Return the streams that refuse dead letters, and handlers that wait for a dependency."""
        if self._mailer is not None:
            if self._mailer.troubles():
                self._forget_passed(app)
            for stream, trouble in self._mailer.troubles().items():
                yield f"records that failed cannot be written to {stream}: {trouble}"
        for subscription, recovery in self._recoveries.items():
            if recovery is not None and recovery.breaker.is_open:
                yield (
                    f"group {subscription.group}: too many records of handler "
                    f"{subscription.handler_name} died; its dependency may be down"
                )

    @hookimpl
    def report(self) -> Mapping[str, Any]:
        """Report the number of open dead letters, and the outcomes of failed records by handler."""
        found: dict[str, Any] = {}
        if self._open is not None:
            found["open_dead_letters"] = self._open.count
        for subscription, recovery in self._recoveries.items():
            if recovery is None:
                continue
            name, group = subscription.handler_name, subscription.group
            if found.get(name, {}).get("group", group) != group:
                name = f"{name} of {group}"
            told = found.setdefault(name, {"group": group, **dict.fromkeys(COUNTED, 0)})
            for each in COUNTED:  # its records that waited come by another subscription
                told[each] += recovery.counts[each]
            is_open = recovery.breaker.is_open or told.get("breaker") == "open"
            told["breaker"] = "open" if is_open else "closed"
        return found

    def _mailer_of(self, app: App) -> Mailer:
        if self._mailer is None:  # a message that is handled without Kafka
            self._mailer = self._make_mailer(app)
        return self._mailer

    def _make_mailer(self, app: App) -> Mailer:
        from .mailer import Mailer

        prefix = app.settings.topic_prefix
        return Mailer(app, prefix, self.settings.style, self.settings.retention)


def _is_inside(app: App) -> bool:
    """Whether the brokers are inside this process, as with `embedded://`."""
    return any(server.startswith(EMBEDDED) for server in app.settings.kafka_servers)

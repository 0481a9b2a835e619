"""One consumer group of the application: fetch, dispatch, commit, rebalance, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from kafkaesk_core.binding import Call
from kafkaesk_core.errors import CommitError, KafkaeskError
from kafkaesk_core.kafka.consumer import (
    CommitResult,
    GroupMember,
    MemberBroken,
    MemberRefused,
    PositionsMissing,
)
from kafkaesk_core.kafka.errors import translate
from kafkaesk_core.lanes import Lanes
from kafkaesk_core.ledger import Ledger
from kafkaesk_core.message import App, IncomingMessage, RebalanceEvent
from kafkaesk_core.plugins import Plugins
from kafkaesk_core.settings import Settings
from kafkaesk_core.subscription import Subscription
from kafkaesk_core.topics import Topics
from kafkaesk_core.verdict import Outcome

from .commits import Commits, Offsets, Reason
from .handling import Handling, Job
from .intake import Intake, Route
from .positions import Positions
from .rebalance import Limits, Rebalance
from .vitals import Vitals

__all__ = ["GroupConsumer"]

logger = logging.getLogger("kafkaesk.consumer")

MAX_RECORDS = 500
"""Records taken from the client's buffers at once; independent of concurrency."""

POLL_MS = 200
UNASSIGNED_POLL_MS = 50
DEFAULT_CONCURRENCY = 100
FULL_PAUSE = 0.005
ERROR_PAUSE = 0.5
TICK = 1.0
REFRESH = 5.0
"""Seconds between looks for a topic that does not exist yet."""

LEAVE_TIMEOUT = 3.0
REBUILD_PAUSES = (1, 2, 4, 8, 16, 30, 30, 30)
"""Seconds before each new try to become a member; then the application stops."""

REASONS: tuple[Reason, ...] = ("interval", "manual", "revoke", "stop")


class GroupConsumer:
    """The application's member of one consumer group, and the handlers that share it (D18).

    `failed` receives the first error that shall stop the application. `on_finished` is told of
    each record that is finished with.
    """

    def __init__(
        self,
        group: str,
        calls: Mapping[Subscription, Call],
        *,
        topics: Topics,
        settings: Settings,
        servers: Sequence[str],
        blame: Callable[[BaseException], str | None],
        on_finished: Callable[[Outcome], None],
    ) -> None:
        self.group = group
        self._settings = settings
        self._topics = topics
        self._on_finished = on_finished
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._ledger: Ledger[TopicPartition] = Ledger()
        self._routes = [self._new_route(s, call, blame) for s, call in calls.items()]
        self._intake = Intake(
            self._ledger,
            self._routes,
            stream_of=topics.stream_of,
            max_uncommitted=settings.max_uncommitted,
            max_bytes=settings.fetch_buffer_bytes,
        )
        self._commits = Commits(
            self._ledger, self._send_commit, group=group, timeout=settings.commit_timeout
        )
        self._commits.layers = self._commit_through_layers
        self._rebalance = Rebalance(
            group,
            self._ledger,
            self._commits,
            self._intake,
            [route.lanes for route in self._routes],
            limits=Limits(settings.drain_timeout, settings.cancel_grace, settings.commit_timeout),
            commits_automatically=settings.auto_commit,
            notify=self._notify,
        )
        self._new_member = partial(GroupMember, servers, group, self._member_options())
        self._member = self._new_member()
        self.vitals = Vitals(
            group,
            self._ledger,
            self._intake,
            self._commits,
            self._rebalance,
            self._routes,
            settings,
            lambda: self._member,
        )
        self._commit_chains: dict[Subscription, dict[Reason, Callable[[Offsets], Any]]] = {}
        self._observers: dict[str, list[Callable[[RebalanceEvent], None]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False

    def _new_route(
        self, subscription: Subscription, call: Call, blame: Callable[[BaseException], str | None]
    ) -> Route:
        handling = Handling(
            subscription,
            call,
            self._ledger,
            finished=self._finished,
            stopped=self._fail,
            blame=blame,
        )
        limit = subscription.concurrency
        if limit is None and subscription.ordering != "partition":
            limit = DEFAULT_CONCURRENCY
        return Route(handling, Lanes(handling.run, concurrency=limit))

    def _member_options(self) -> dict[str, Any]:
        options = self._settings.client.for_consumer()
        options.setdefault("metadata_max_age_ms", 5_000 if self._has_patterns() else 60_000)
        return {**options, "auto_offset_reset": "none", "enable_auto_commit": False}

    def _has_patterns(self) -> bool:
        return any(route.handling.subscription.topics is None for route in self._routes)

    # --- plugins

    def compile(self, plugins: Plugins, app: App) -> None:
        """Build the chains around handling and committing anew; what is in flight goes on."""
        observers: dict[str, list[Callable[[RebalanceEvent], None]]] = {}
        for route in self._routes:
            subscription = route.handling.subscription
            constants: dict[str, Any] = {"subscription": subscription, "app": app}
            skip = subscription.skip_plugins
            route.handling.layers = plugins.chain(
                "wrap_consume", route.handling.innermost, skip=skip, **constants
            )
            self._commit_chains[subscription] = {
                reason: plugins.chain(
                    "wrap_commit", self._commits.innermost, skip=skip, reason=reason, **constants
                )
                for reason in REASONS
            }
            for hook in ("partitions_assigned", "partitions_revoked"):
                notifier = plugins.notifier(hook, **constants)
                if notifier is not None:
                    observers.setdefault(hook, []).append(notifier)
        self._observers = observers

    def _notify(self, event: RebalanceEvent) -> None:
        hook = "partitions_assigned" if event.kind == "assigned" else "partitions_revoked"
        for observer in self._observers.get(hook, ()):
            observer(event)

    async def _commit_through_layers(self, offsets: Offsets, reason: Reason) -> None:
        by_subscription: dict[Subscription, dict[TopicPartition, int]] = {}
        for partition, offset in offsets.items():
            route, _ = self._intake.route(partition.topic)
            part = by_subscription.setdefault(route.handling.subscription, {})
            part[partition] = offset
        for subscription, part in by_subscription.items():
            await self._commit_chains[subscription][reason](part)

    # --- start and run

    async def start(self, timeout: float) -> None:
        """Connect and ask to join the group; partitions arrive later.

        Raises:
            BrokerError: no broker answered in `timeout` seconds, or it refused us.
            SubscriptionError: two handlers of the group name the same stream.
        """
        for route in self._routes:
            for stream in route.handling.subscription.topics or ():
                self._intake.route(self._topics.topic_of(stream))
        await self._start_member(timeout)
        self._positions = Positions(
            lambda: self._member,
            self._ledger,
            group=self.group,
            policy=self._settings.client.auto_offset_reset,
            forget=self._forget,
        )
        works = [self._poll_loop(), self._watch_loop()]
        if self._settings.auto_commit:
            works.append(self._commit_loop())
        self._tasks = [asyncio.create_task(self._guard(work)) for work in works]

    def _pattern(self) -> str:
        """One anchored expression over topics, also for literal names (D20)."""
        streams = "|".join(f"(?:{r.handling.subscription.stream_regex})" for r in self._routes)
        return f"^{re.escape(self._topics.prefix)}(?:{streams})"

    @property
    def streams(self) -> list[str]:
        """The patterns and names that the group is subscribed to."""
        found: list[str] = []
        for route in self._routes:
            subscription = route.handling.subscription
            found += (
                [subscription.pattern or ""] if subscription.topics is None else subscription.topics
            )
        return found

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except KafkaeskError as error:
            self._fail(error)
        except Exception as error:
            logger.exception("group %s: the consumer failed", self.group)
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._intake.is_open = False
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # asked for by the application, or not at all

    def _finished(self, job: Job, outcome: Outcome) -> None:
        self._intake.finished(job)
        self._on_finished(outcome)

    def refresh(self, topic: str) -> None:
        """This process created a topic: if it is one of ours, look for it now."""
        stream = self._topics.stream_of(topic)
        if stream is not None and any(
            route.handling.subscription.matches(stream) for route in self._routes
        ):
            self._member.refresh_metadata()

    # --- fetching

    async def _poll_loop(self) -> None:
        """Poll always, whatever is assigned or running: polling keeps the membership (rule 24)."""
        rebuilds, pause = 0, FULL_PAUSE
        while not self._is_stopping:
            try:
                took = await self._poll()
            except PositionsMissing as missing:
                await self._reset(missing.partitions)
            except MemberBroken as broken:
                rebuilds += 1
                await self._rebuild(broken, rebuilds - 1)
            except MemberRefused as refused:
                raise self._told(refused) from refused.__cause__
            except KafkaeskError as error:
                self.vitals.troubled(str(error))
                await asyncio.sleep(ERROR_PAUSE)
            else:
                if self._member.is_joined:
                    rebuilds = 0
                    self.vitals.joined()
                pause = FULL_PAUSE if took else min(pause * 2, POLL_MS / 1000)
                await asyncio.sleep(pause if self._intake.is_full else 0)

    async def _poll(self) -> bool:
        """Take what there is; the client returns buffered records without suspending."""
        wanted = self._intake.wanted()
        timeout_ms = POLL_MS if wanted else UNASSIGNED_POLL_MS
        if self._intake.is_full:
            timeout_ms = 0
        batch = await self._member.poll(wanted, max_records=MAX_RECORDS, timeout_ms=timeout_ms)
        self.vitals.polled()
        for partition, records in batch.items():
            if partition in self._ledger and self._intake.is_open:
                self._intake.take(partition, records)
                self.vitals.took(partition)
            elif self._member.is_assigned(partition) and not self._is_stopping:
                # The client has the new assignment, we are not told yet: read them again.
                self._member.seek(partition, records[0].offset)
        return bool(batch)

    async def _reset(self, missing: Mapping[TopicPartition, int | None]) -> None:
        timeout = self._settings.client.number("request_timeout_ms") / 1000
        try:
            await self._positions.reset(missing, timeout=timeout)
        except (TimeoutError, KafkaError) as error:
            self.vitals.troubled(f"cannot find offsets to start from: {error!r}")
            await asyncio.sleep(ERROR_PAUSE)

    def _forget(self, partition: TopicPartition) -> None:
        self._intake.forget([partition])
        for route in self._routes:
            route.lanes.cancel([partition])
            route.lanes.close([partition])

    async def _rebuild(self, broken: MemberBroken, tries: int) -> None:
        """Become another member: this one never works again (rule 33)."""
        cause = self._told(broken)
        if tries >= len(REBUILD_PAUSES) or not self.vitals.was_joined:
            raise cause from broken.__cause__
        pause = REBUILD_PAUSES[tries]
        logger.error("%s; joining the group anew in %d seconds", cause, pause)
        self.vitals.troubled(str(cause))
        await self._rebalance.revoked(frozenset(self._ledger), is_lost=True)
        await self._member.stop(LEAVE_TIMEOUT)
        await asyncio.sleep(pause)
        self._member = self._new_member()
        await self._start_member()

    async def _start_member(self, timeout: float | None = None) -> None:
        limit = self._settings.start_timeout if timeout is None else timeout
        await self._member.start(self._pattern(), self._rebalance, limit)

    def _told(self, problem: MemberBroken | MemberRefused) -> KafkaeskError:
        return translate(problem.__cause__ or problem, f"group {self.group}: membership")

    # --- committing

    async def _send_commit(self, offsets: Offsets, timeout: float) -> CommitResult:
        return await self._member.commit(offsets, timeout)

    async def _commit_loop(self) -> None:
        interval = self._settings.auto_commit_interval_ms / 1000
        while True:
            await asyncio.sleep(interval)
            if self._member.is_stable and not self._is_stopping:
                try:
                    await self._commits.commit("interval")
                except Exception as error:
                    # What a layer raised is the commit's failure, never the consumer's (D4).
                    logger.warning("%s; trying again in %g seconds", error, interval)

    async def commit_through(self, message: IncomingMessage) -> None:
        """Mark a handler's own message as done and commit, as `subscriber.consumer.commit()`.

        Raises:
            CommitError: it was not stored.
        """
        partition = TopicPartition(message.topic, message.partition)
        if not message.is_closed:
            if not self._ledger.finish(partition, message.epoch, message.offset):
                raise CommitError(
                    f"{message.topic}[{message.partition}]@{message.offset} is not committed: "
                    f"group {self.group} has given the partition to another member"
                )
            message.is_closed = True
        await self._commits.commit("manual")

    @property
    def raw(self) -> AIOKafkaConsumer:
        """The client's own consumer; using it can lose records."""
        return self._member.raw

    # --- watching

    async def _watch_loop(self) -> None:
        looked = self._loop.time()
        while True:
            before = self._loop.time()
            await asyncio.sleep(TICK)
            now = self._loop.time()
            self.vitals.watch(now - before - TICK)
            if now - looked >= REFRESH:
                looked = now
                self._look_for_missing_topics()

    def _look_for_missing_topics(self) -> None:
        present = self._member.topics()
        missing = [topic for topic in self._literal_topics() if topic not in present]
        self.vitals.missing_topics = tuple(missing)
        if missing:
            self._member.refresh_metadata()

    def _literal_topics(self) -> list[str]:
        return [
            self._topics.topic_of(stream)
            for route in self._routes
            for stream in route.handling.subscription.topics or ()
        ]

    # --- stop

    def close_intake(self) -> None:
        """Take no more records, and start no more handlers than a clean handover needs."""
        self._is_stopping = True
        self._intake.is_open = False
        for route in self._routes:
            route.lanes.drain(list(self._ledger))

    async def stop(self, deadline: float) -> None:
        """Drain, commit, leave the group, until `deadline` on the loop's clock at the latest."""
        self.close_intake()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._rebalance.stop(deadline)
        finally:
            left = max(deadline - self._loop.time(), LEAVE_TIMEOUT)
            await self._member.stop(min(left, LEAVE_TIMEOUT))
            for route in self._routes:
                remaining = await route.lanes.stop(self._settings.cancel_grace)
                if remaining:
                    logger.error(
                        "group %s: %d handlers ignored their cancellation and still run",
                        self.group,
                        remaining,
                    )

"""One consumer group of the application: assembles, starts and stops its parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import CodeType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.structs import TopicPartition

from kafkaesk_core.app_protocol import App
from kafkaesk_core.errors import CommitError, HandlerError, KafkaeskError
from kafkaesk_core.handlers import BatchBinding, Binding
from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.kafka.new_partitions import Assignor, NewPartitions
from kafkaesk_core.message import IncomingMessage, RebalanceEvent
from kafkaesk_core.offsets import HandlerResult, OffsetTracker
from kafkaesk_core.pauses import Pauses
from kafkaesk_core.plugins.chains import Raiser, find_codes
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.router import Subscription
from kafkaesk_core.scheduler import BatchLanes, Lanes
from kafkaesk_core.settings import Settings
from kafkaesk_core.shutdown import Shutdown
from kafkaesk_core.tasks import check_loop
from kafkaesk_core.topics import Topics

from .commits import CommitLoop, OffsetCommitter
from .crashes import CrashCounter, Turn
from .dispatch import Dispatcher, HandlerPipeline
from .error_policy import ErrorPolicy, describe
from .fetched import FetchedRecord
from .handling import BatchHandling, MessageHandling
from .health import GroupHealth, HealthTicker
from .membership import CLOSE_TIMEOUT, LEAVE_TIMEOUT, Membership, Positions
from .notes import CommitNotes
from .polling import Polling
from .rebalance import Limits, Rebalance

__all__ = ["GroupConsumer"]

logger = logging.getLogger("kafkaesk.consumer")

OBSERVERS = {
    "assigned": "partitions_assigned",
    "revoked": "partitions_revoked",
    "lost": "partitions_revoked",
}
"""The hook of each kind of event."""

DEFAULT_CONCURRENCY = 100
PATIENCE = 3
"""Request timeouts in a row without an answer about a partition before the client is replaced."""


class GroupConsumer:
    """The application's member of one consumer group; all handlers of the group share it (D18).

    `failure` receives the first error that stops the application. `on_finished` is called with the
    result of each done or skipped record.
    """

    def __init__(
        self,
        group: str,
        bindings: Mapping[Subscription, Binding | BatchBinding],
        *,
        topics: Topics,
        settings: Settings,
        servers: Sequence[str],
        find_raiser: Callable[[BaseException], Raiser | None],
        on_finished: Callable[[HandlerResult], None] | None,
        claimed_streams: Collection[str] = (),
    ) -> None:
        self.group = group
        self._claimed_streams = claimed_streams
        self._settings = settings
        self._topics = topics
        self._on_finished = on_finished
        self._loop = asyncio.get_running_loop()
        self.failure: asyncio.Future[None] = self._loop.create_future()
        self._offsets: OffsetTracker[TopicPartition] = OffsetTracker()
        self._pipelines = [
            self._new_pipeline(
                subscription,
                binding,
                ErrorPolicy(
                    subscription, report_failure=self.report_failure, find_raiser=find_raiser
                ),
            )
            for subscription, binding in bindings.items()
        ]
        self._dispatcher = self._new_dispatcher()
        self._new_partitions = NewPartitions(lambda: self._membership.member.partitions())
        new_member = partial(GroupMember, servers, group, self._member_options())
        self._membership = Membership(group, new_member, self._pattern(), settings.start_timeout)
        self._commits = self._new_commits()
        self._commit_loop = CommitLoop(
            self._commits,
            lambda: self._membership.member,
            interval=settings.auto_commit_interval_ms / 1000,
            only_gaps=not settings.auto_commit,  # handlers commit the records
        )
        self._crashes: CrashCounter | None = None
        self._observers: dict[str, list[Callable[[RebalanceEvent], None]]] = {}
        self._rebalance = self._new_rebalance()
        self._positions = self._new_positions()
        self.health = self._new_health()
        self._polling = self._new_polling()
        self._tasks: list[asyncio.Task[None]] = []

    def _new_dispatcher(self) -> Dispatcher:
        dispatcher = Dispatcher(
            self._offsets,
            self._pipelines,
            stream_of=self._topics.stream_of,
            max_bytes=self._settings.fetch_buffer_bytes,
        )
        if self._settings.commit_notes or self._settings.count_crashes:
            # A handler that commits manually may hold its records until it commits.
            dispatcher.notes = CommitNotes(
                self.group, self._offsets, says_done=self._settings.auto_commit
            )
        return dispatcher

    def _new_commits(self) -> OffsetCommitter:
        return OffsetCommitter(
            self._offsets,
            self._membership.commit,
            group=self.group,
            timeout=self._settings.commit_timeout,
            subscription_of=self._subscription_of,
            progress=lambda partitions: self._membership.member.progress(partitions),
            lost=lambda: self._dispatcher.release(list(self._offsets)),
            notes=self._dispatcher.notes,
        )

    def count_crashes(self, turn: Turn) -> None:
        """Count a crash as an attempt of the record that caused it, from the next assignment on."""
        notes = self._dispatcher.notes
        if notes is not None and self._settings.auto_commit:
            self._crashes = CrashCounter(turn, notes, self._commits, self._pipelines)

    def _new_rebalance(self) -> Rebalance:
        settings = self._settings
        return Rebalance(
            self.group,
            self._offsets,
            self._commits,
            self._dispatcher,
            [pipeline.lanes for pipeline in self._pipelines],
            limits=Limits(settings.drain_timeout, settings.cancel_grace, settings.commit_timeout),
            commits_automatically=settings.auto_commit,
            notify=self._notify,
        )

    def _new_health(self) -> GroupHealth:
        return GroupHealth(
            self.group,
            self._offsets,
            self._dispatcher,
            self._commits,
            self._rebalance,
            self._positions,
            self._pipelines,
            lambda: self._membership.member,
        )

    def _new_positions(self) -> Positions:
        client = self._settings.client
        return Positions(
            lambda: self._membership.member,
            self._offsets,
            group=self.group,
            policy=client.auto_offset_reset,
            timeout=client.number("request_timeout_ms") / 1000,
            new_partitions=self._new_partitions,
            forget=lambda partition: self._rebalance.forget([partition]),
            owes=self._commit_loop.hurry,
        )

    def _new_polling(self) -> Polling:
        self._rebalance.follow_seeks = self._positions.follow
        return Polling(
            self._membership,
            self._offsets,
            self._dispatcher,
            self._rebalance,
            self._positions,
            self._new_partitions,
            self.health,
        )

    def _new_pipeline(
        self, subscription: Subscription, binding: Binding | BatchBinding, error_policy: ErrorPolicy
    ) -> HandlerPipeline:
        settings = self._settings.with_overrides(subscription.overrides)
        limit = subscription.concurrency
        lanes: Lanes[FetchedRecord]
        if isinstance(binding, BatchBinding):
            batches = BatchHandling(
                subscription, binding, self._offsets, error_policy, self._on_finished
            )
            size, timeout = subscription.batch_limits
            lanes = BatchLanes(
                batches.run,
                size=size,
                timeout=timeout,
                concurrency=limit,
                report_failure=self.report_failure,
            )
            return HandlerPipeline(batches, lanes, settings, self._claimed_streams)
        if limit is None and subscription.ordering != "partition":
            limit = DEFAULT_CONCURRENCY
        handling = MessageHandling(
            subscription, binding, self._offsets, error_policy, self._on_finished
        )
        lanes = Lanes(handling.run, concurrency=limit, report_failure=self.report_failure)
        return HandlerPipeline(handling, lanes, settings, self._claimed_streams)

    def _member_options(self) -> dict[str, Any]:
        options = self._settings.client.for_consumer()
        options.setdefault("metadata_max_age_ms", 5_000 if self._has_patterns() else 60_000)
        if self._settings.client.auto_offset_reset == "latest":
            strategies = options.get("partition_assignment_strategy", [RoundRobinPartitionAssignor])
            options["partition_assignment_strategy"] = [
                Assignor(strategy, self._new_partitions) for strategy in strategies
            ]
        return {**options, "auto_offset_reset": "none", "enable_auto_commit": False}

    def _has_patterns(self) -> bool:
        return any(pipeline.handling.subscription.topics is None for pipeline in self._pipelines)

    def _subscription_of(self, topic: str) -> Subscription:
        pipeline, _ = self._dispatcher.pipeline(topic)
        return pipeline.handling.subscription

    # --- plugins

    def compile(self, plugins: Plugins, app: App) -> None:
        """Rebuild all chains; messages in flight finish on the old chains."""
        observers: dict[str, list[Callable[[RebalanceEvent], None]]] = {}
        for pipeline in self._pipelines:
            handling, subscription = pipeline.handling, pipeline.handling.subscription
            constants: dict[str, Any] = {"subscription": subscription, "app": app}
            skip = subscription.skip_plugins
            handling.compile(partial(plugins.chain, handling.hook, skip=skip, **constants))
            for hook in set(OBSERVERS.values()):
                notifier = plugins.notifier(hook, **constants)
                if notifier is not None:
                    observers.setdefault(hook, []).append(notifier)
        self._commits.compile(
            plugins, app, [pipeline.handling.subscription for pipeline in self._pipelines]
        )
        self._observers = observers

    def _notify(self, event: RebalanceEvent) -> None:
        """Notify observers that partitions were assigned or revoked."""
        if self._crashes is not None and event.kind == "assigned":
            self._crashes.assigned()
        for observer in self._observers.get(OBSERVERS[event.kind], ()):
            observer(event)

    # --- start and run

    async def start(self, timeout: float) -> None:
        """Connect and ask to join the group; partitions arrive later.

        Raises:
            BrokerError: no broker answered within `timeout` seconds, or the broker refused the
                connection.
        """
        await self._membership.start(self._rebalance, timeout)
        watch = HealthTicker(
            self._membership,
            self._pipelines,
            self._topics,
            self.health,
            patience=PATIENCE * self._settings.client.number("request_timeout_ms") / 1000,
            metadata_age=self._member_options()["metadata_max_age_ms"] / 1000,
        )
        works = [self._polling.run(), watch.run(), self._commit_loop.run()]
        self._tasks = [asyncio.create_task(self._guard(work)) for work in works]

    def _pattern(self) -> str:
        """One anchored regular expression for all topics, including literal names (D20)."""
        streams = "|".join(f"(?:{pipeline.stream_regex})" for pipeline in self._pipelines)
        return f"^{re.escape(self._topics.prefix)}(?:{streams})"

    @property
    def handlers(self) -> dict[CodeType, str]:
        """The names of the handlers, by their code objects."""
        subscriptions = [pipeline.handling.subscription for pipeline in self._pipelines]
        return {code: one.handler_name for one in subscriptions for code in find_codes(one.func)}

    @property
    def streams(self) -> list[str]:
        """The patterns and names of the group's subscriptions."""
        return [
            stream
            for pipeline in self._pipelines
            for stream in pipeline.handling.subscription.streams
        ]

    def is_run_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task runs a handler of the group."""
        return any(pipeline.lanes.is_run_by(task) for pipeline in self._pipelines)

    def runs_caller(self) -> bool:
        """Whether the caller is a handler that runs, or a task that one has started."""
        return any(pipeline.lanes.runs_caller() for pipeline in self._pipelines)

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            if self._membership.is_leaving:  # its client is closed by now
                logger.debug("group %s: ended by the stop", self.group, exc_info=True)
                return
            self.report_failure(error)

    def report_failure(self, error: BaseException) -> None:
        """Stop the application. Log each failure at once, because draining may take a while."""
        self._dispatcher.is_open = False
        is_ours = isinstance(error, KafkaeskError)
        logger.error(
            "%s; stopping: running handlers may take up to drain_timeout %g seconds to finish",
            error if is_ours else f"group {self.group}: the consumer failed: {describe(error)}",
            self._settings.drain_timeout,
            exc_info=_foreign(error),
        )
        vars(error)["is_logged"] = True  # for who reports the end of the process
        if not self.failure.done():
            self.failure.set_exception(error)
            self.failure.exception()  # the application may never read it

    def refresh(self, topic: str) -> None:
        """Refresh the metadata if the group reads this topic, which was just created here."""
        stream = self._topics.stream_of(topic)
        if any(pipeline.takes(stream) for pipeline in self._pipelines):
            self._membership.member.refresh_metadata()

    def pause(self, pauses: Pauses) -> None:
        """Stop starting handlers for paused streams."""

        def is_paused(partition: Any) -> bool:
            stream = self._topics.stream_of(partition.topic)
            return stream is not None and pauses.reason(self.group, stream) is not None

        self.health.paused = tuple(pauses.texts(self.group))
        for pipeline in self._pipelines:
            pipeline.lanes.pause(is_paused if self.health.paused else None)

    # --- committing

    async def commit_through(self, messages: Sequence[IncomingMessage]) -> None:
        """Mark the messages of a handler as done, and commit; see `subscriber.consumer.commit()`.

        Raises:
            CommitError: the commit was not stored.
        """
        check_loop(self._loop, "subscriber.consumer.commit()")
        for message in messages:
            self._finish(message)
        topic = messages[0].topic if messages else None
        await self._commits.commit("manual", topic=topic)

    def _finish(self, message: IncomingMessage) -> None:
        if message.is_closed:
            return
        partition = TopicPartition(message.topic, message.partition)
        if not self._offsets.finish(partition, message.epoch, message.offset):
            raise CommitError(
                f"{message.topic}[{message.partition}]@{message.offset} is not committed: "
                f"group {self.group} has given the partition to another member"
            )
        message.is_closed = True

    @property
    def raw(self) -> AIOKafkaConsumer:
        """The consumer of aiokafka; using it directly can lose records."""
        return self._membership.member.raw

    # --- stop

    def begin_drain(self) -> None:
        """Take no more records; start only the handlers that a clean handover needs."""
        self._dispatcher.is_open = False
        for pipeline in self._pipelines:
            pipeline.lanes.drain(list(self._offsets))

    async def stop(self, shutdown: Shutdown) -> None:
        """Drain, commit and leave the group, within the remaining time of `shutdown`."""
        self.begin_drain()
        self._polling.is_ended = self._commit_loop.is_ended = True
        self._membership.begin_leaving()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=min(1.0, shutdown.left("drain")))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(shutdown.left("cancel")):
                    await self._rebalance.stop(shutdown)
        finally:
            await self._membership.leave(min(LEAVE_TIMEOUT, shutdown.left("leave")))
            if self._tasks:  # one of them may be stopping a member that was being replaced
                left = max(shutdown.left("leave"), CLOSE_TIMEOUT)
                await asyncio.wait(self._tasks, timeout=left)
            for pipeline in self._pipelines:
                await pipeline.lanes.stop(min(self._settings.cancel_grace, shutdown.left("leave")))
                self._report_running(pipeline)

    def _report_running(self, pipeline: HandlerPipeline) -> None:
        for offset, _, batch in pipeline.lanes.running_items:
            logger.error(
                "%s[%d]@%d (group %s, handler %s): the handler ignores its cancellation and still "
                "runs; the record will be redelivered",
                batch.partition.topic,
                batch.partition.partition,
                offset,
                self.group,
                pipeline.handling.subscription.handler_name,
            )


def _foreign(error: BaseException) -> BaseException | None:
    """Return the error whose traceback helps: that of a handler, or one that nothing expects."""
    if isinstance(error, HandlerError):
        return error.__cause__
    return None if isinstance(error, KafkaeskError) else error

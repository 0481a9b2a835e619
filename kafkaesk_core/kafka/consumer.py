"""A member of a consumer group: aiokafka's consumer with time limits and our own commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from time import monotonic
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import errors as kafka_errors
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import KafkaeskError, NotRunningError
from kafkaesk_core.message import ParsedRecord, PartlyUnreadable
from kafkaesk_core.tasks import finish, retrieve_exception

from .clients import force_close, leave_parked, start_client
from .commits import CommitClient, CommitResult, MemberIdentity
from .diagnose import diagnose
from .errors import translate
from .records import Fetched, is_wrapped, leave_parsed

__all__ = [
    "GroupMember",
    "Listener",
    "MemberBroken",
    "MemberRefused",
    "PositionsMissing",
    "RebalanceHandler",
]

logger = logging.getLogger("kafkaesk.kafka")

NOBODY = TopicPartition("", -1)
"""A partition that is never assigned: polling it keeps the membership and takes no records."""

REFUSALS = (
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidGroupIdError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.UnsupportedVersionError,
)


class PositionsMissing(Exception):
    """Partitions without a position; the value is the offset that is out of range, or None."""

    def __init__(self, partitions: Mapping[TopicPartition, int | None]) -> None:
        super().__init__(partitions)
        self.partitions = partitions


class MemberBroken(Exception):
    """This member will never work again; a new one may. The reason is in `__cause__`."""


class MemberRefused(Exception):
    """The group refuses members with these settings. The reason is in `__cause__`."""


class RebalanceHandler(Protocol):
    """Reacts to rebalances; aiokafka's coordination task calls it."""

    async def revoked(self, partitions: frozenset[TopicPartition], *, is_lost: bool) -> None:
        """Release these partitions; no other member gets them before this returns."""

    def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Start reading these partitions; no heartbeat is sent before this returns."""


class GroupMember:
    """A consumer in a group, subscribed to topics by one regular expression."""

    def __init__(self, servers: Iterable[str], group: str, options: Mapping[str, Any]) -> None:
        self._servers = tuple(servers)
        self._group = group
        self._options = dict(options)
        self._consumer: AIOKafkaConsumer | None = None
        self._fetched: Fetched | None = None
        self._identity: MemberIdentity | None = None
        self._commits: CommitClient | None = None
        self._is_broken_off: KafkaeskError | None = None
        self._is_stopped = False
        self._handed_out: dict[Any, int | None] = {}
        self._notes: dict[TopicPartition, tuple[int, str]] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._confirmed = 0.0  # when the group said last that we are a member
        self._sought: dict[TopicPartition, tuple[int | None, int | None]] = {}

    @property
    def raw(self) -> AIOKafkaConsumer:
        """The consumer of aiokafka; using it can lose records or handle them twice."""
        if self._consumer is None:
            raise RuntimeError("the consumer is not started")
        return self._consumer

    # --- start and stop

    async def start(self, pattern: str, handler: RebalanceHandler, timeout: float) -> None:
        """Connect and subscribe; partitions arrive later, through the handler.

        Raises:
            BrokerUnreachableError: no broker answered within `timeout` seconds.
            AuthenticationError: the brokers refused our credentials, or we their certificate.
            NotRunningError: the member was stopped, before or during the start.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=list(self._servers), group_id=self._group, **self._options
        )
        await_settled(consumer)
        try:
            # Without a subscription: with one, start() waits for the first assignment, however
            # long another member takes to release its partitions.
            await start_client(consumer.start(), consumer._client, timeout)
            if self._is_stopped:
                raise NotRunningError(f"group {self._group}: the member was stopped as it started")
        except BaseException as error:
            await finish(force_close(consumer))
            if isinstance(error, (kafka_errors.KafkaConnectionError, TimeoutError)):
                raise await diagnose(self._servers, self._options) from error
            if isinstance(error, kafka_errors.KafkaError):
                raise translate(error, "starting a consumer", servers=self._servers) from error
            raise
        self._fetched = leave_parsed(consumer)
        self._note_committed(consumer._coordinator)
        self._note_confirmed(consumer._coordinator)
        self._note_sought(consumer._fetcher)
        self._consumer = consumer
        self._commits = CommitClient(consumer._client, self._group)
        consumer.subscribe(pattern=pattern, listener=Listener(self, handler))

    def _note_committed(self, coordinator: Any) -> None:
        """Keep the committed offsets and texts that the client fetches; it does not report them."""
        fetch = coordinator._do_fetch_commit_offsets

        async def fetching(partitions: Collection[TopicPartition]) -> Any:
            found = await fetch(partitions)
            self._committed.update({partition: one.offset for partition, one in found.items()})
            self._notes.update(
                {partition: (one.offset, one.metadata or "") for partition, one in found.items()}
            )
            return found

        coordinator._do_fetch_commit_offsets = fetching

    def _note_confirmed(self, coordinator: Any) -> None:
        """Note when the group confirms our membership; the client keeps it during an outage."""
        beat = coordinator._do_heartbeat

        async def beating() -> Any:
            is_confirmed = await beat()
            if is_confirmed:
                self._confirmed = monotonic()
            return is_confirmed

        coordinator._do_heartbeat = beating

    def _note_sought(self, fetcher: Any) -> None:
        """Note seeks on the client; it does not report them."""
        seek_to, request_reset = fetcher.seek_to, fetcher.request_offset_reset

        def note(partition: TopicPartition, offset: int | None) -> None:
            before, _ = self._sought.get(partition, (self.position(partition), None))
            self._sought[partition] = (before, offset)

        def seeking(partition: TopicPartition, offset: int) -> None:
            note(partition, offset)
            seek_to(partition, offset)

        def resetting(partitions: Collection[TopicPartition], strategy: Any) -> Any:
            for partition in partitions:
                note(partition, None)
            waiting = request_reset(partitions, strategy)
            for partition in partitions:
                self._note_answer(partition)
            return waiting

        fetcher.seek_to, fetcher.request_offset_reset = seeking, resetting

    def _note_answer(self, partition: TopicPartition) -> None:
        """Note the offset that the brokers return for a seek to the beginning or the end.

        It is noted at once: a poll may move the position on, and fail.
        """
        state = self._state(partition)

        def answered(offset: int) -> None:
            type(state).reset_to(state, offset)
            before, pending = self._sought.get(partition, (None, offset))
            if pending is None:
                self._sought[partition] = (before, offset)

        state.reset_to = answered

    def take_sought(self) -> Mapping[TopicPartition, tuple[int | None, int]]:
        """Return the application's seeks since the last call: the old and the new offset.

        A seek to the beginning or the end stays until the brokers have answered.
        """
        if not self._sought or not self.is_started:
            return {}
        found = {}
        for partition, (before, offset) in list(self._sought.items()):
            if offset is not None or not self.is_assigned(partition):
                del self._sought[partition]
            if offset is not None:
                found[partition] = (before, offset)
        return found

    def is_sought(self, partition: TopicPartition) -> bool:
        """Whether the application has sought in this partition since `take_sought`."""
        return partition in self._sought

    def take_notes(self) -> Mapping[TopicPartition, tuple[int, str]]:
        """Return the committed offsets and texts fetched since the last call."""
        taken, self._notes = self._notes, {}
        return taken

    @property
    def has_notes(self) -> bool:
        """Whether committed offsets were fetched since the last call of `take_notes`."""
        return bool(self._notes)

    async def stop(self, timeout: float) -> None:
        """Leave the group and close all connections, within little more than `timeout` seconds.

        A start in progress fails, and so does any later start.
        """
        self._is_stopped = True
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            await self._leave(consumer, timeout)
        finally:
            await finish(force_close(consumer))

    async def _leave(self, consumer: AIOKafkaConsumer, timeout: float) -> None:
        if self._commits is not None:
            await self._commits.stop_connecting()
        # stop() may raise a CancelledError of its own fetcher. In a separate task it cannot be
        # mistaken for a cancellation of this task.
        stopping = asyncio.create_task(consumer.stop())
        stopping.add_done_callback(retrieve_exception)
        leaving = asyncio.create_task(leave_parked(consumer, stopping))
        try:
            await asyncio.wait([stopping], timeout=timeout)
        finally:
            tasks = [task for task in (stopping, leaving) if not task.done()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)
        if stopping.done() and not stopping.cancelled() and (error := stopping.exception()):
            logger.warning("leaving group %s failed: %r", self._group, error)

    # --- membership

    @property
    def is_stable(self) -> bool:
        """Whether this is still the member that got the last assignment."""
        return self._identity is not None and self._identity == self._present_identity()

    @property
    def is_joined(self) -> bool:
        """Whether partitions were assigned since the last revocation."""
        return self._identity is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether the group has not confirmed our membership for a whole session timeout."""
        return self.is_joined and monotonic() - self._confirmed > self.session_timeout

    @property
    def session_timeout(self) -> float:
        """Seconds without a heartbeat after which the group gives our partitions to others."""
        milliseconds: float = self._options["session_timeout_ms"]
        return milliseconds / 1000

    @property
    def generation(self) -> int | None:
        """The group's generation of our assignment; None while no partitions are assigned."""
        return None if self._identity is None else self._identity.generation

    def _present_identity(self) -> MemberIdentity | None:
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        if coordinator is None or coordinator.generation < 0 or not coordinator.member_id:
            return None
        return MemberIdentity(coordinator.generation, coordinator.member_id)

    def note_membership(self) -> None:
        """Remember our identity: partitions have just been assigned."""
        self._notes.clear()  # of an earlier assignment
        self._committed.clear()
        self._confirmed = monotonic()
        self._sought.clear()
        self._identity = self._present_identity()
        if self._commits is not None:
            self._commits.connect(self.raw._coordinator.coordinator_id)

    def forget_membership(self) -> None:
        """Forget our identity: nothing may be committed until the next assignment."""
        self._identity = None

    # --- records

    async def poll(
        self, partitions: Collection[TopicPartition], *, max_records: int, timeout_ms: int
    ) -> dict[TopicPartition, list[ParsedRecord]]:
        """Return records of these partitions; the client keeps those of other partitions.

        The call blocks while the group rebalances, whatever the timeout. The buffers are drained
        and returned in one step of the event loop, so the records belong to the current assignment.

        Raises:
            PositionsMissing: partitions have no committed offset, or one that is out of range.
            MemberBroken: this member cannot recover. MemberRefused: the group would also refuse a
            new member. KafkaeskError: any other error; polling again may succeed.
        """
        wanted = partitions or (NOBODY,)
        self._check_tasks()
        records: dict[TopicPartition, list[ParsedRecord]]
        before = self._positions(wanted)
        try:
            records = await self.raw.getmany(
                *wanted, timeout_ms=timeout_ms, max_records=max_records
            )
        except kafka_errors.NoOffsetForPartitionError as error:
            raise PositionsMissing({error.args[0]: None}) from error
        except kafka_errors.OffsetOutOfRangeError as error:
            raise PositionsMissing(error.args[0]) from error
        except kafka_errors.GroupAuthorizationFailedError as error:
            # The client reports its dead heartbeat task forever, even when permission is restored.
            raise MemberBroken from error
        except REFUSALS as error:
            raise MemberRefused from error
        except kafka_errors.KafkaError as error:
            self._rewind(wanted, before)
            self._check_tasks()
            raise translate(error, f"group {self._group}: polling") from error
        if is_wrapped():
            self._handed_out = self._positions(self.raw.assignment())
        return self._marked(records)

    def _marked(
        self, records: dict[TopicPartition, list[ParsedRecord]]
    ) -> dict[TopicPartition, list[ParsedRecord]]:
        """Mark the lists that contain unreadable records."""
        unreadable = self._fetched.salvage.found if self._fetched is not None else ()
        for partition in unreadable:
            if partition in records:
                records[partition] = PartlyUnreadable(records[partition])
        if unreadable:
            unreadable.clear()
        return records

    def _check_tasks(self) -> None:
        """Check the two tasks that the client neither watches nor restarts."""
        for task in (self.raw._coordinator._coordination_task, self.raw._fetcher._fetch_task):
            if task.done():
                raise MemberBroken from (None if task.cancelled() else task.exception())
        if self._is_broken_off is not None:
            raise MemberBroken from self._is_broken_off

    def break_off(self, reason: KafkaeskError) -> None:
        """Let the next poll raise MemberBroken: the client is stuck and reports no error."""
        self._is_broken_off = reason

    def _positions(self, partitions: Iterable[TopicPartition]) -> dict[Any, int | None]:
        """Return positions by aiokafka's state objects; a rebalance creates new objects."""
        subscription = self.raw._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        states = [] if assignment is None else map(assignment.state_value, partitions)
        return {state: state._position for state in states if state is not None}

    def _rewind(
        self, partitions: Collection[TopicPartition], before: Mapping[Any, int | None]
    ) -> None:
        """Restore the positions that a failed poll advanced.

        getmany drains one partition after the other. If one partition raises (a wrong checksum, a
        codec that is not installed), the records already drained from others are lost, but their
        positions stay advanced. The records would be skipped, and commits would pass them.
        """
        subscription, fetcher = self.raw._subscription.subscription, self.raw._fetcher
        for partition in filter(self.is_assigned, partitions):
            state = subscription.assignment.state_value(partition)
            position = before.get(state)
            if partition in self._sought:  # since then, maybe
                _, position = self._sought[partition]
            if state._position == position:
                continue
            if position is not None:
                self.reread(partition, position)
            else:  # this poll set its first position: start again from the committed offset
                fetcher._records.pop(partition, None)
                state.await_reset(None)

    def is_assigned(self, partition: TopicPartition) -> bool:
        """Whether the client has this partition; during a rebalance that is not ownership."""
        return partition in self.raw.assignment()

    def reread(self, partition: TopicPartition, offset: int) -> None:
        """Read records again that were polled but not taken; seeks stay noted."""
        sought = self._sought.get(partition)
        if sought is not None and sought[1] is None:
            return  # the brokers' answer decides
        self.seek(partition, offset)
        if sought is not None:
            self._sought[partition] = sought

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue from another offset, and drop the partition's buffered records."""
        self.raw.seek(partition, offset)
        self._sought.pop(partition, None)  # not the application's

    async def offsets(
        self, partitions: Collection[TopicPartition], *, at_end: bool, timeout: float
    ) -> dict[TopicPartition, int]:
        """Return the first offsets of partitions, or the offsets at the end of their logs."""
        find = self.raw.end_offsets if at_end else self.raw.beginning_offsets
        async with asyncio.timeout(timeout):
            found: dict[TopicPartition, int] = await find(list(partitions))
        return found

    def high_watermark(self, partition: TopicPartition) -> int | None:
        """Return the end of the log as of the last fetch."""
        state = self._state(partition)
        return None if state is None else state.highwater

    def position(self, partition: TopicPartition) -> int | None:
        """Return the offset that the client reads next; None while it is unknown."""
        state = self._state(partition)
        return None if state is None else state._position

    def committed(self, partition: TopicPartition) -> int | None:
        """Return the committed offset that a broker has returned or acknowledged.

        None if the group has committed none, or the broker has not answered yet.
        """
        return self._committed.get(partition)

    def progress(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return, by partition, the first offset read in this assignment and the next one to read.

        Every record between the two was returned, except transaction markers, aborted records and
        records removed by compaction, which no consumer gets. Partitions without a fetch are left
        out.
        """
        subscription = self._consumer and self._consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return {}
        found = {}
        for partition in partitions:
            state, start = assignment.state_value(partition), None
            if state is not None and state._position is not None and self._fetched is not None:
                start = self._fetched.start(partition, assignment)
            position = state and self._handed_out_up_to(state)
            if start is not None and position is not None:
                found[partition] = (start, position)
        return found

    def _handed_out_up_to(self, state: Any) -> int | None:
        """Return the offset up to which `poll` has returned every record.

        This is the client's position, because draining and returning are one step. A wrapper around
        getmany may wait or be cancelled between the two; then it is the position at the end of the
        last poll, or an earlier one that was sought since.
        """
        if not is_wrapped():
            return state._position  # type: ignore[no-any-return]  # aiokafka is untyped
        returned = self._handed_out.get(state)
        return None if returned is None else min(returned, state._position)

    def last_answer(self, partition: TopicPartition) -> int | None:
        """A stamp of the last answered fetch, only for comparison with another stamp."""
        state = self._state(partition)
        return None if state is None else state.timestamp

    def _state(self, partition: TopicPartition) -> Any:
        if self._consumer is None or not self.is_assigned(partition):
            return None
        return self._consumer._subscription.subscription.assignment.state_value(partition)

    @property
    def last_metadata(self) -> float:
        """A stamp of the last metadata, only for comparison with another stamp."""
        stamp: float = self.raw._client.cluster._last_successful_refresh_ms
        return stamp

    @property
    def is_started(self) -> bool:
        """Whether the client exists: between the start and the stop."""
        return self._consumer is not None

    def topics(self) -> frozenset[str]:
        """All topics in the client's metadata."""
        return frozenset(self.raw._client.cluster.topics())

    def partitions(self) -> frozenset[TopicPartition]:
        """All partitions in the client's metadata; empty before the start and after the stop."""
        if self._consumer is None:
            return frozenset()
        cluster = self._consumer._client.cluster
        return frozenset(
            TopicPartition(topic, number)
            for topic in cluster.topics()
            for number in cluster.partitions_for_topic(topic) or ()
        )

    def refresh_metadata(self) -> None:
        """Request the cluster's metadata now, because a topic was created."""
        if self._consumer is not None:
            self._consumer._client.force_metadata_update()

    # --- commit

    async def commit(
        self,
        offsets: Mapping[TopicPartition, int],
        timeout: float,
        notes: Mapping[TopicPartition, str] | None = None,
    ) -> CommitResult:
        """Commit next-to-read offsets and notes as the member that got the last assignment.

        Raises:
            CommitError: no answer within `timeout` seconds; the offsets may have been stored.
        """
        identity, commits = self._identity, self._commits
        if identity is None or commits is None or not self.is_stable:
            return CommitResult(is_lost=True)
        work = (offsets, timeout, notes) if notes else (offsets, timeout)
        result = await commits.send(identity, *work)
        self._committed.update({partition: offsets[partition] for partition in result.stored})
        return result


# --- what aiokafka reports


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Passes rebalances on and logs exceptions, because one would end aiokafka's coordination."""

    def __init__(self, member: GroupMember, handler: RebalanceHandler) -> None:
        self._member = member
        self._handler = handler

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Report the revocation before the group gives the partitions to other members."""
        if not self._member.is_started:
            return
        # aiokafka also calls this after the session has expired; the generation shows which case it
        # is.
        is_lost = not self._member.is_stable
        try:
            await self._handler.revoked(frozenset(revoked), is_lost=is_lost)
        except BaseException as error:
            _keep(error)
        finally:
            self._member.forget_membership()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Report the assignment before the first heartbeat."""
        if not self._member.is_started:
            return
        try:
            self._member.note_membership()
            self._handler.assigned(frozenset(assigned))
        except BaseException as error:
            _keep(error)


def _keep(error: BaseException) -> None:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    logger.error("rebalance handling failed", exc_info=error)


def await_settled(consumer: AIOKafkaConsumer) -> None:
    """Let a consumer that is not started yet keep waiting if its assignment is withdrawn.

    When a new topic matches the pattern, aiokafka withdraws the assignment just made. Its fetcher
    was woken for that assignment and runs one step of the event loop later. The fetcher does not
    expect a missing assignment, and would end for good.
    """
    consumer._subscription = _Settled()


class _Settled(SubscriptionState):  # type: ignore[misc]  # aiokafka is untyped
    async def wait_for_assignment(self) -> None:
        """Wait for the next assignment; it still exists when this returns."""
        while True:
            await super().wait_for_assignment()
            subscription = self.subscription
            if subscription is not None and subscription.assignment is not None:
                return

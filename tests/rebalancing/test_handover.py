"""Handing partitions over and taking records in, with a scripted member (rules 18 to 22)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.consumer.commits import OffsetCommitter
from kafkaesk_core.consumer.dispatch import Dispatcher, HandlerPipeline
from kafkaesk_core.consumer.error_policy import ErrorPolicy
from kafkaesk_core.consumer.fetched import FetchedRecord
from kafkaesk_core.consumer.handling import MessageHandling
from kafkaesk_core.consumer.membership import Positions
from kafkaesk_core.consumer.polling import Polling
from kafkaesk_core.consumer.rebalance import Limits, Rebalance
from kafkaesk_core.errors import CommitError, HandlerError, Retry
from kafkaesk_core.handlers import Binding
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.kafka.consumer import MemberBroken, PositionsMissing
from kafkaesk_core.kafka.errors import known_errors
from kafkaesk_core.kafka.new_partitions import NewPartitions
from kafkaesk_core.message import IncomingMessage, RebalanceEvent
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.router import OnError, Subscription
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.settings import Settings
from kafkaesk_core.shutdown import Shutdown
from kafkaesk_testing import eventually

A, B = TopicPartition("topic", 0), TopicPartition("topic", 1)


def record(partition: TopicPartition, offset: int) -> ConsumerRecord:
    return ConsumerRecord(*partition, offset, 0, 0, None, b"value", None, 0, 5, ())


class Engine:
    """One group's engine without Kafka: commits are kept, handlers wait until released."""

    def __init__(self, on_error: OnError = "stop") -> None:
        self.committed: list[dict[TopicPartition, int]] = []
        self.handled: list[int] = []
        self.stopped: list[HandlerError] = []
        self.events: list[RebalanceEvent] = []
        self.unknown: set[TopicPartition] = set()
        self.owed: list[dict[TopicPartition, int]] = []
        self.release = asyncio.Event()
        self.sending = 0
        self.answer = asyncio.Event()
        self.answer.set()
        self.is_lost = False
        self.tracker: OffsetTracker[TopicPartition] = OffsetTracker()

        async def handler(data: bytes) -> None: ...

        subscription = Subscription("topic", handler, "group", pattern="*", on_error=on_error)
        self.handling = MessageHandling(
            subscription,
            Binding(self._handle),
            self.tracker,
            ErrorPolicy(
                subscription, report_failure=self.stopped.append, find_raiser=lambda error: None
            ),
            None,
        )
        self.lanes: Lanes[FetchedRecord] = Lanes(self.handling.run)
        self.dispatcher = Dispatcher(
            self.tracker,
            [HandlerPipeline(self.handling, self.lanes, Settings(max_uncommitted=100))],
            stream_of=lambda topic: topic,
            max_bytes=1_000_000,
        )
        self.commits = OffsetCommitter(
            self.tracker,
            self._send,
            group="group",
            timeout=1.0,
            subscription_of=lambda _: subscription,
            lost=lambda: self.dispatcher.release(list(self.tracker)),
        )
        self.rebalance = Rebalance(
            "group",
            self.tracker,
            self.commits,
            self.dispatcher,
            [self.lanes],
            limits=Limits(drain=0.5, grace=0.2, commit=1.0),
            commits_automatically=True,
            notify=self.events.append,
        )

    async def _handle(self, message: IncomingMessage) -> None:
        await self.release.wait()
        self.handled.append(message.offset)

    async def _send(self, offsets: Mapping[TopicPartition, int], timeout: float) -> CommitResult:
        self.committed.append(dict(offsets))
        self.sending += 1
        try:
            await self.answer.wait()
        finally:
            self.sending -= 1
        if self.is_lost:
            return CommitResult(is_lost=True)
        return CommitResult(
            stored=set(offsets) - self.unknown, gone=self.unknown.intersection(offsets)
        )

    def take(self, partition: TopicPartition, *offsets: int) -> None:
        self.dispatcher.take(partition, [record(partition, offset) for offset in offsets])


class Member:
    """Returns what it is told to; notes what is sought."""

    is_joined = True
    is_stable = True

    def __init__(self, *batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        self._batches = list(batches)
        self.assigned = {A, B}
        self.sought: list[tuple[TopicPartition, int]] = []
        self.polled: list[list[TopicPartition]] = []
        self.first, self.end = 0, 7  # offsets in the log
        self.positions: dict[TopicPartition, int] = {}
        self.jumps: dict[TopicPartition, tuple[int | None, int]] = {}

    def take_sought(self) -> Any:
        taken, self.jumps = self.jumps, {}
        return taken

    def is_sought(self, partition: TopicPartition) -> bool:
        return partition in self.jumps

    async def poll(self, partitions: Any, **_: Any) -> Any:
        self.polled.append(list(partitions))
        await asyncio.sleep(0)
        return self._batches.pop(0) if self._batches else {}

    def is_assigned(self, partition: TopicPartition) -> bool:
        return partition in self.assigned

    async def offsets(
        self, partitions: list[TopicPartition], *, at_end: bool, timeout: float
    ) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end if at_end else self.first)

    def position(self, partition: TopicPartition) -> int | None:
        return self.positions.get(partition)

    def partitions(self) -> frozenset[TopicPartition]:
        return frozenset(self.assigned)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append((partition, offset))

    def reread(self, partition: TopicPartition, offset: int) -> None:
        self.seek(partition, offset)


class BrokenMember(Member):
    """Its client has ended, its membership has not."""

    async def poll(self, partitions: Any, **_: Any) -> Any:
        raise MemberBroken


class GroupHealth:
    """Hears everything and keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Membership:
    """Always the same member."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def joined(self) -> None: ...

    def reason(self, broken: MemberBroken) -> MemberBroken:
        return broken

    async def replace(self, broken: MemberBroken) -> None:
        await asyncio.sleep(60)


def polling(engine: Engine, member: Member, *, timeout: float = 1.0) -> Polling:
    membership: Any = Membership(member)
    health: Any = GroupHealth()
    return Polling(
        membership,
        engine.tracker,
        engine.dispatcher,
        engine.rebalance,
        positions(engine, member, timeout=timeout),
        health,
        health,
    )


async def run_until(work: Polling, condition: Any) -> None:
    task = asyncio.create_task(work.run())
    await eventually(condition)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.rule_18
async def test_a_revocation_finishes_what_runs_and_commits_it() -> None:
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0, 1, 2)
    await eventually(lambda: engine.lanes.running)

    revoking = asyncio.create_task(engine.rebalance.revoked(frozenset([A]), is_lost=False))
    await asyncio.sleep(0)
    engine.release.set()
    await revoking

    assert engine.handled == [0]
    assert engine.committed == [{A: 1}]
    assert list(engine.tracker) == []


@pytest.mark.rule_18
@pytest.mark.parametrize("on_error", ["stop", "skip"])
async def test_a_handler_that_turns_its_cancellation_into_an_error_fails_nothing(
    on_error: OnError,
) -> None:
    """What happens after the drain is the handover's."""
    engine = Engine(on_error)

    async def translate(message: IncomingMessage) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the database went away") from None

    engine.handling.compile(lambda _: translate)
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0, 1)
    await eventually(lambda: engine.lanes.running)

    await engine.rebalance.revoked(frozenset([A]), is_lost=False)
    await eventually(lambda: engine.handling.counts["given_up"])

    assert engine.stopped == []
    assert engine.committed == []
    assert engine.handling.counts["skip"] == 0
    engine.handling.compile(lambda innermost: innermost)
    engine.release.set()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0, 1)
    await eventually(lambda: engine.handled == [0, 1])


@pytest.mark.rule_17
@pytest.mark.parametrize("commits_automatically", [True, False])
@pytest.mark.parametrize("is_stop", [True, False])
async def test_a_commit_in_flight_is_finished_by_a_handover(
    commits_automatically: bool, is_stop: bool
) -> None:
    """It was cancelled, and the handler that waited for it failed."""
    engine = Engine()
    engine.rebalance._commits_automatically = commits_automatically
    engine.answer.clear()

    async def commit_by_hand(message: IncomingMessage) -> None:
        engine.tracker.finish(A, message.epoch, message.offset)
        message.is_closed = True
        await engine.commits.commit("manual")
        engine.handled.append(message.offset)

    engine.handling.compile(lambda _: commit_by_hand)
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0)
    await eventually(lambda: engine.committed)

    handing_over = asyncio.create_task(
        engine.rebalance.stop(Shutdown(10))
        if is_stop
        else engine.rebalance.revoked(frozenset([A]), is_lost=False)
    )
    await asyncio.sleep(0)
    engine.answer.set()
    await handing_over

    assert engine.handled == [0]
    assert engine.committed == [{A: 1}]
    assert engine.stopped == []


@pytest.mark.rule_5
@pytest.mark.k17
@pytest.mark.parametrize("is_lost", [True, False])
async def test_no_commit_runs_or_starts_when_a_revocation_has_returned(
    is_lost: bool,
) -> None:
    """It could be applied after the next owner's, and move the group back."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.release.set()
    engine.take(A, 0)
    await eventually(lambda: engine.handled == [0])
    engine.answer.clear()
    committing = asyncio.create_task(engine.commits.commit("interval"))
    await eventually(lambda: engine.sending == 1)

    await engine.rebalance.revoked(frozenset([A]), is_lost=is_lost)

    assert engine.sending == 0
    with pytest.raises(CommitError):
        await committing
    engine.tracker.assign([A])
    epoch = engine.tracker.register(A, [0], 0.0)
    engine.tracker.finish(A, epoch, 0)
    sent = len(engine.committed)
    with pytest.raises(CommitError, match="being handed over"):
        await engine.commits.commit("manual")
    assert len(engine.committed) == sent


@pytest.mark.rule_17
async def test_a_commit_that_comes_too_late_is_no_failure_of_its_record() -> None:
    """The broker says so before the coordination does."""
    engine = Engine()
    engine.is_lost = True
    told: list[CommitError] = []

    async def commit_by_hand(message: IncomingMessage) -> None:
        engine.tracker.finish(A, message.epoch, message.offset)
        try:
            await engine.commits.commit("manual")
        except CommitError as error:
            told.append(error)
            raise RuntimeError("cannot go on") from error

    engine.handling.compile(lambda _: commit_by_hand)
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0)
    await eventually(lambda: engine.handling.counts["given_up"])
    await engine.rebalance.revoked(frozenset([A]), is_lost=True)

    assert "given our partitions to others" in str(told[0])
    assert engine.stopped == []


@pytest.mark.rule_18
@pytest.mark.k16
async def test_lost_partitions_are_neither_waited_for_nor_committed() -> None:
    """A broker accepts a late commit of an empty group, and moves it back."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0, 1)
    engine.release.set()
    await eventually(lambda: engine.handled == [0, 1])
    engine.release.clear()
    engine.take(A, 2)
    await eventually(lambda: engine.lanes.running)

    await engine.rebalance.revoked(frozenset([A]), is_lost=True)

    assert engine.committed == []
    assert list(engine.tracker) == []
    assert engine.rebalance.counts["lost"] == 1
    assert engine.events[-1].kind == "lost"


@pytest.mark.rule_3
@pytest.mark.rule_21
async def test_an_orphaned_completion_changes_nothing_after_the_partition_came_back() -> None:
    engine = Engine()
    stubborn = asyncio.Event()

    async def ignore_cancellation(message: IncomingMessage) -> None:
        while not stubborn.is_set():
            try:
                await asyncio.shield(asyncio.ensure_future(stubborn.wait()))
            except asyncio.CancelledError:
                continue

    engine.handling.compile(lambda _: ignore_cancellation)
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0)
    await eventually(lambda: engine.lanes.running)
    await engine.rebalance.revoked(frozenset([A]), is_lost=True)
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0)

    stubborn.set()
    await eventually(lambda: engine.tracker.state(A).watermark == 1)

    assert engine.tracker.stale_completions == 1


@pytest.mark.f43
@pytest.mark.rule_22
@pytest.mark.k26
async def test_three_losses_in_a_short_time_point_to_a_duplicate_instance(caplog: Any) -> None:
    engine = Engine()

    for _ in range(3):
        engine.rebalance.assigned(frozenset([A]))
        await engine.rebalance.revoked(frozenset([A]), is_lost=True)

    assert "group_instance_id" in caplog.text


@pytest.mark.rule_8
async def test_a_stop_while_a_broken_member_hands_over_commits_what_is_finished() -> None:
    """It cut the handover short, and what was finished came again."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0)
    await eventually(lambda: engine.lanes.running)
    replacing = polling(engine, BrokenMember())
    handing_over = asyncio.create_task(replacing.run())
    await asyncio.sleep(0)

    replacing.is_ended = True
    handing_over.cancel()
    stopping = asyncio.create_task(engine.rebalance.stop(Shutdown(10)))
    await asyncio.sleep(0)
    engine.release.set()
    await asyncio.wait([stopping, handing_over])

    assert engine.handled == [0]
    assert engine.committed == [{A: 1}]
    assert engine.lanes.running == 0
    assert handing_over.cancelled()


@pytest.mark.rule_20
@pytest.mark.k65
async def test_records_that_come_before_their_assignment_are_read_again() -> None:
    """The client has the new assignment before its callback is called."""
    engine = Engine()
    member = Member({A: [record(A, 7), record(A, 8)]})

    await run_until(polling(engine, member), lambda: member.sought)

    assert member.sought == [(A, 7)]
    assert engine.lanes.running == 0


@pytest.mark.u13
async def test_records_that_come_while_partitions_are_handed_over_are_not_taken() -> None:
    """A batch that was fetched before the revocation."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.dispatcher.is_open = False
    member = Member({A: [record(A, 7)]})

    await run_until(polling(engine, member), lambda: member.sought)

    assert engine.tracker.state(A).position is None
    assert member.sought == [(A, 7)]


@pytest.mark.rule_24
@pytest.mark.u11
async def test_a_member_without_partitions_is_polled_all_the_same() -> None:
    engine = Engine()
    member = Member()

    await run_until(polling(engine, member), lambda: len(member.polled) > 3)

    assert member.polled[0] == []


@pytest.mark.rule_11
@pytest.mark.rule_16
async def test_a_full_partition_is_left_in_the_client_and_others_go_on() -> None:
    """Back-pressure by records."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A, B]))
    engine.take(A, *range(100))
    member = Member({B: [record(B, 0)]})

    await run_until(polling(engine, member), lambda: len(member.polled) > 3)

    assert all(A not in wanted for wanted in member.polled)
    assert engine.tracker.state(B).position == 1
    assert await engine.lanes.stop(1) == 0


async def test_back_pressure_counts_bytes_too() -> None:
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    large = ConsumerRecord(*A, 0, 0, 0, None, b"." * 1_000_001, None, 0, 1_000_001, ())

    engine.dispatcher.take(A, [large])
    assert engine.dispatcher.wanted() == []
    engine.release.set()
    await eventually(lambda: engine.dispatcher.wanted() == [A])

    assert engine.dispatcher.buffered_bytes == 0


@pytest.mark.rule_10
@pytest.mark.rule_18
async def test_a_stop_gives_up_handlers_that_outlive_the_drain_and_counts_them() -> None:
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0)
    await eventually(lambda: engine.lanes.running)
    loop = asyncio.get_running_loop()

    started = loop.time()
    await engine.rebalance.stop(Shutdown(10))

    assert loop.time() - started < 2
    assert engine.handled == []
    assert engine.committed == []


@pytest.mark.rule_34
async def test_a_stop_does_not_drain_past_its_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 0)
    await eventually(lambda: engine.lanes.running)
    shutdown = Shutdown(0.2)
    allowed = shutdown.left("drain")

    await engine.rebalance.stop(shutdown)

    assert 0 < allowed < 0.5, "less than drain_timeout"
    assert f"handlers still run after {allowed:g} of drain_timeout 0.5 seconds" in caplog.text


async def test_a_partition_that_the_coordinator_does_not_know_yet_is_read_on() -> None:
    """A topic just created is known to some brokers earlier than to others."""
    engine = Engine()
    engine.release.set()
    engine.rebalance.assigned(frozenset({A}))
    engine.take(A, 0)
    await eventually(lambda: engine.handled == [0])
    engine.unknown = {A}

    await engine.commits.commit("interval")

    assert engine.dispatcher.wanted() == [A]
    engine.unknown = set()
    engine.take(A, 1)
    await eventually(lambda: engine.handled == [0, 1])
    await engine.rebalance.revoked(frozenset({A}), is_lost=False)
    assert engine.committed[-1] == {A: 2}
    assert engine.dispatcher.buffered_bytes == 0


def positions(
    engine: Engine, member: Member, policy: str = "earliest", *, timeout: float = 1.0
) -> Positions:
    untyped: Any = member
    return Positions(
        lambda: untyped,
        engine.tracker,
        group="group",
        policy=policy,
        timeout=timeout,
        new_partitions=NewPartitions(member.partitions),
        forget=lambda partition: engine.rebalance.forget([partition]),
        owes=lambda: engine.owed.append(engine.tracker.propose()),
    )


async def reset(
    positions: Positions, member: Member, missing: dict[TopicPartition, int | None]
) -> None:
    """Reset positions, and wait for the brokers' answers."""
    member.positions = {tp: offset for tp, offset in missing.items() if offset is not None}
    positions.reset(missing)
    await eventually(lambda: positions.leave_out_unknown(list(missing)) == list(missing))


@pytest.mark.rule_23
async def test_partitions_that_start_at_the_same_offset_share_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, member = Engine(), Member({})
    engine.rebalance.assigned(frozenset([A, B]))
    found = positions(engine, member)
    member.positions = {}

    with caplog.at_level("INFO", "kafkaesk.consumer"):
        found.reset({A: None})  # the client asks for one at a time
        found.reset({B: None})
        await eventually(lambda: found.leave_out_unknown([A, B]) == [A, B])

    told = [text for text in caplog.messages if "no committed offset" in text]
    assert told == ["group group: no committed offset for topic[0,1]; starts at 0"]


@pytest.mark.rule_2
async def test_a_seek_back_with_the_client_is_followed(caplog: Any) -> None:
    """The application ended with a ValueError."""
    engine = Engine()
    member = Member({A: [record(A, 5), record(A, 6)]}, {A: [record(A, 2)]})
    engine.rebalance.assigned(frozenset([A]))
    engine.release.set()
    work = polling(engine, member)

    await run_until(work, lambda: 2 in engine.handled)
    await engine.commits.commit("interval")

    assert engine.committed == [{A: 3}]
    assert "topic[0] (group group): the client was rewound; continues at 2" in caplog.text


def sought_in(member: Member, to: int, *, before: int) -> Member:
    """The member, whose application has sought with the client, between two polls."""
    member.jumps = {A: (before, to)}
    return member


@pytest.mark.rule_9
async def test_a_jump_back_is_committed_before_its_first_record_is_done() -> None:
    """A crash in between, or a handover, would forget it."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.release.set()
    engine.take(A, 3, 4, 5, 6)
    await eventually(lambda: engine.handled == [3, 4, 5, 6])
    await engine.commits.commit("interval")
    engine.release.clear()

    await run_until(polling(engine, Member({A: [record(A, 3)]})), lambda: engine.owed)
    assert engine.owed == [{A: 3}], "at once"
    await engine.rebalance.revoked(frozenset([A]), is_lost=False)

    assert engine.committed == [{A: 7}, {A: 3}]


@pytest.mark.rule_9
@pytest.mark.parametrize("to", [1, 50])
async def test_a_seek_of_a_handler_that_ends_in_a_handover_is_committed_by_it(to: int) -> None:
    """It was dropped: the next owner went on behind the record that the handler had."""
    engine, member = Engine(), Member({A: [record(A, 3), record(A, 4)]})
    engine.rebalance.assigned(frozenset([A]))
    work = polling(engine, member)
    engine.rebalance.follow_seeks = work._positions.follow
    running = asyncio.create_task(work.run())
    await eventually(lambda: engine.lanes.running_items)

    handover = asyncio.create_task(engine.rebalance.revoked(frozenset([A]), is_lost=False))
    await eventually(lambda: not engine.dispatcher.is_open)
    sought_in(member, to, before=5)
    member._batches.append({A: [record(A, to)]})  # what is polled from there is not taken
    await eventually(lambda: member.sought == [(A, to)])
    engine.release.set()
    await handover
    work.is_ended = True
    running.cancel()
    await asyncio.wait([running])

    assert engine.handled == [3]
    assert engine.committed == [{A: to}]


async def test_a_jump_back_is_committed_also_where_handlers_commit_by_hand() -> None:
    """It commits no record."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.release.set()
    engine.take(A, 3, 4)
    await eventually(lambda: engine.handled == [3, 4])
    await engine.commits.commit("manual")
    engine.release.clear()
    await run_until(polling(engine, Member({A: [record(A, 3)]})), lambda: engine.owed)

    await engine.commits.commit("interval", only_gaps=True)

    assert engine.committed == [{A: 5}, {A: 3}]


@pytest.mark.parametrize("to", [3, 7, 10, 50])
async def test_where_a_seek_goes_does_not_depend_on_what_was_read_ahead(
    to: int, caplog: Any
) -> None:
    """Records 3 to 9 were read and are not done: a poison one is at 3, say."""
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, *range(3, 10))
    await eventually(lambda: engine.lanes.running)
    member = sought_in(Member({A: [record(A, to), record(A, to + 1)]}), to, before=9)

    work = polling(engine, member)
    await run_until(work, lambda: engine.owed)
    engine.release.set()
    await eventually(lambda: engine.handled == [to, to + 1])
    await engine.commits.commit("interval")

    assert engine.owed == [{A: to}], "committed at once"
    assert engine.committed == [{A: to + 2}]
    given_up = len(range(3, min(to, 10)))
    assert work._positions.counts == {"sought": 1, "given_up": given_up}
    told = f"{given_up} records from 3 on were read and are dropped"
    assert (told in caplog.text) == (given_up > 0)
    assert (f"offsets 9 to {to - 1} are not read" in caplog.text) == (to > 9)


async def test_a_seek_to_the_end_is_followed_though_no_record_comes() -> None:
    engine = Engine()
    engine.rebalance.assigned(frozenset([A]))
    engine.take(A, 3, 4)
    await eventually(lambda: engine.lanes.running)

    await run_until(polling(engine, sought_in(Member(), 9, before=5)), lambda: engine.owed)
    await engine.commits.commit("interval")

    assert engine.committed == [{A: 9}]


async def test_a_seek_before_the_first_record_is_committed_too() -> None:
    """In partitions_assigned, say."""
    engine, member = Engine(), Member({A: [record(A, 5)]})
    engine.rebalance.assigned(frozenset([A]))
    member.jumps = {A: (None, 5)}

    await run_until(polling(engine, member), lambda: engine.lanes.running)
    await engine.commits.commit("interval")

    assert engine.committed == [{A: 5}]


async def test_what_is_at_hand_is_handled_though_retention_has_deleted_it() -> None:
    engine, member = Engine(), Member()
    engine.rebalance.assigned(frozenset({A}))
    engine.take(A, 0, 1, 2)
    await asyncio.sleep(0)
    member.first = 10

    await reset(positions(engine, member), member, {A: 3})
    engine.take(A, 10)
    engine.release.set()
    await eventually(lambda: engine.handled == [0, 1, 2, 10])
    await engine.commits.commit("interval")

    assert member.sought == [(A, 10)]
    assert engine.committed == [{A: 11}]
    assert engine.tracker.stale_completions == 0


@pytest.mark.rule_9
@pytest.mark.parametrize(("policy", "offset"), [("latest", 7), ("earliest", 5)])
async def test_where_a_group_goes_on_after_its_offset_expired_is_committed(
    policy: str, offset: int
) -> None:
    """Else the next start would find it out of range again, and "latest" skip what came since."""
    engine, member = Engine(), Member()
    engine.rebalance.assigned(frozenset({A}))
    member.first = 5

    await reset(positions(engine, member, policy), member, {A: 4})

    assert member.sought == [(A, offset)]
    assert engine.owed == [{A: offset}]


@pytest.mark.rule_21
async def test_a_handler_that_ignores_its_cancellation_stops_no_partition_begun_anew() -> None:
    """Its lane was never given up, as it is when the partition is taken away."""
    engine, member, stubborn = Engine(), Member(), asyncio.Event()

    async def ignore_cancellation(message: IncomingMessage) -> None:
        while not stubborn.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stubborn.wait()

    engine.handling.compile(lambda _: ignore_cancellation)
    engine.rebalance.assigned(frozenset({A}))
    engine.take(A, 5)
    await eventually(lambda: engine.lanes.running)

    await reset(positions(engine, member), member, {A: 6})
    engine.handling.compile(lambda innermost: innermost)
    engine.release.set()
    engine.take(A, 0, 1)

    try:
        await eventually(lambda: engine.handled == [0, 1])
        assert engine.lanes.stuck == 1
    finally:
        stubborn.set()
    await eventually(lambda: engine.lanes.running == 0)


async def test_what_a_truncated_log_has_replaced_is_forgotten() -> None:
    engine, member = Engine(), Member()
    engine.rebalance.assigned(frozenset({A}))
    engine.take(A, 5, 6)
    await asyncio.sleep(0)
    member.first = 2

    await reset(positions(engine, member), member, {A: 7})
    engine.take(A, 2)
    engine.release.set()
    await eventually(lambda: engine.handled == [2])

    assert engine.tracker.state(A).watermark == 3


@pytest.mark.rule_1
async def test_what_a_truncated_log_has_kept_is_not_passed_over() -> None:
    """Its end lies above records that were read, and are not done."""
    engine, member = Engine(), Member()
    engine.rebalance.assigned(frozenset({A}))
    engine.take(A, 3, 4, 5, 6, 7, 8)
    await asyncio.sleep(0)
    member.end = 6

    await reset(positions(engine, member, "latest"), member, {A: 9})

    assert member.sought == [(A, 3)]
    assert engine.owed == [{A: 3}]


async def test_a_record_that_its_handler_committed_and_then_retried_leaves_the_buffer() -> None:
    """Each would keep its bytes in there, until no more records are wanted."""
    engine = Engine()

    async def commits_first(message: IncomingMessage) -> None:
        if message.attempt == 1:
            engine.tracker.finish(A, message.epoch, message.offset)
            message.is_closed = True
            raise Retry(delay=0)

    engine.handling.compile(lambda _: commits_first)
    engine.rebalance.assigned(frozenset({A}))
    engine.take(A, 0)
    await engine.lanes.wait_idle([A], 1.0)

    assert engine.dispatcher.buffered_bytes == 0
    assert engine.handling.counts == {"retry": 1, "done": 1}
    assert engine.tracker.stale_completions == 0


class SlowLeader(Member):
    """The broker that leads A answers no question about its offsets, until it is back."""

    def __init__(self) -> None:
        super().__init__({B: [record(B, 0)]}, {B: [record(B, 1)]})
        self.is_back = False
        self.asked = 0

    async def poll(self, partitions: Any, **options: Any) -> Any:
        if A in partitions and A not in self.positions:
            raise PositionsMissing({A: None})
        return await super().poll(partitions, **options)

    async def offsets(
        self, partitions: list[TopicPartition], *, at_end: bool, timeout: float
    ) -> dict[TopicPartition, int]:
        self.asked += 1
        if not self.is_back:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(60)
        return await super().offsets(partitions, at_end=at_end, timeout=timeout)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        super().seek(partition, offset)
        self.positions[partition] = offset


async def test_a_lookup_does_not_undo_a_seek_that_the_brokers_have_not_answered() -> None:
    """Neither has a position: the group started at the end, though the beginning was sought."""
    engine, member = Engine(), SlowLeader()
    engine.rebalance.assigned(frozenset([A, B]))
    found = positions(engine, member, "latest")
    member.is_back = True
    found.reset({A: None, B: None})
    member.jumps = {A: (None, 0)}

    await eventually(lambda: found.leave_out_unknown([A, B]) == [A, B])

    assert member.sought == [(B, 7)]


@pytest.mark.rule_24
async def test_a_partition_whose_position_is_looked_up_keeps_no_other_from_being_read() -> None:
    """All of them waited, for as long as a request may take."""
    engine, member = Engine(), SlowLeader()
    engine.rebalance.assigned(frozenset({A, B}))
    engine.release.set()
    work = polling(engine, member, timeout=60)

    await run_until(work, lambda: engine.handled == [0, 1])

    assert member.sought == []
    assert member.asked == 1, "one question at a time"
    assert work._positions._lookups == {}, "the stop ends it"


@pytest.mark.rule_38
async def test_a_position_that_cannot_be_looked_up_is_reported_once_and_looked_up_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, member = Engine(), SlowLeader()
    engine.rebalance.assigned(frozenset({A, B}))
    work = polling(engine, member, timeout=0.01)
    task = asyncio.create_task(work.run())

    await eventually(lambda: member.asked > 2)

    text = "cannot find the offset to start topic[0] from: no answer within 0.01 s"
    assert work._positions.problems == [text]
    assert caplog.text.count(f"group group: {text}; trying again") == 1
    member.is_back = True
    await eventually(lambda: member.sought == [(A, 0)])
    assert work._positions.problems == []
    task.cancel()
    await asyncio.wait([task])


async def test_a_lookup_changes_nothing_of_a_partition_that_was_assigned_again() -> None:
    engine, member = Engine(), SlowLeader()
    engine.rebalance.assigned(frozenset({A}))
    of_a = positions(engine, member, timeout=0.05)
    of_a.reset({A: None})
    assert of_a.leave_out_unknown([A]) == []

    engine.rebalance.assigned(frozenset({A}))

    assert of_a.leave_out_unknown([A]) == [A]
    await eventually(lambda: not of_a._lookups)
    assert of_a.problems == []
    assert member.sought == []


async def test_a_lookup_gives_way_to_a_seek_with_the_client() -> None:
    engine, member = Engine(), Member()
    engine.rebalance.assigned(frozenset({A}))
    of_a = positions(engine, member)
    of_a.reset({A: None})
    member.positions[A] = 5

    await eventually(lambda: not of_a._lookups)

    assert member.sought == []


async def test_an_error_of_a_lookup_that_is_no_answer_ends_the_polling() -> None:
    class Defective(SlowLeader):
        async def offsets(
            self, partitions: list[TopicPartition], *, at_end: bool, timeout: float
        ) -> dict[TopicPartition, int]:
            raise RuntimeError("a defect")

    engine, member = Engine(), Defective()
    engine.rebalance.assigned(frozenset({A, B}))

    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(polling(engine, member).run(), 5)


@pytest.mark.rule_25
async def test_what_is_created_while_we_consume_is_read_from_the_beginning() -> None:
    """Also with "latest": what was published before we noticed it would be skipped."""
    engine, member = Engine(), Member()
    member.assigned = {A}
    latest = positions(engine, member, "latest")
    engine.rebalance.assigned(frozenset({A}))
    await reset(latest, member, {A: None})
    member.assigned = {A, B}
    engine.rebalance.assigned(frozenset({A, B}))

    await reset(latest, member, {A: None, B: None})

    assert member.sought == [(A, 7), (A, 7), (B, 0)]
    assert engine.tracker.propose() == {A: 7, B: 0}, "a restart must find them"
    assert engine.owed[-1] == {A: 7, B: 0}, "at once: a crash must not come first"


@pytest.mark.rule_33
@pytest.mark.parametrize("is_stable", [True, False])
async def test_a_broken_member_hands_over_as_long_as_it_is_one(is_stable: bool) -> None:
    """Its fetcher may have died: the group still takes its commits."""
    engine, member = Engine(), Member()
    engine.rebalance.assigned(frozenset({A}))
    engine.take(A, 0, 1)
    await asyncio.sleep(0)
    member.is_stable = is_stable

    async def breaks(partitions: Any, **_: Any) -> Any:
        asyncio.get_running_loop().call_later(0.05, engine.release.set)
        raise MemberBroken

    member.poll = breaks  # type: ignore[method-assign]
    await run_until(polling(engine, member), lambda: engine.events[-1].kind != "assigned")

    assert engine.committed == ([{A: 1}] if is_stable else [])
    assert engine.events[-1].kind == ("revoked" if is_stable else "lost")
    assert len(engine.tracker) == 0


@pytest.mark.f6
@pytest.mark.rule_26
@pytest.mark.u1
@pytest.mark.parametrize("error", sorted(known_errors(), key=str), ids=lambda error: error.__name__)
async def test_an_error_of_the_client_out_of_a_handler_skips_no_record(
    error: type[Exception],
) -> None:
    """Which error it is makes no difference; those behind it in the lane wait."""
    stopping, retrying = Engine(), Engine(lambda error, message: Retry(delay=0))
    attempts: list[tuple[int, int]] = []

    async def fail_once(message: IncomingMessage) -> None:
        attempts.append((message.offset, message.attempt))
        if len(attempts) in (1, 2):
            raise error("of the handler's own client")

    for engine in (stopping, retrying):
        engine.handling.compile(lambda _: fail_once)
        engine.rebalance.assigned(frozenset([A]))
    stopping.take(A, 0, 1)
    await eventually(lambda: stopping.stopped)
    retrying.take(A, 0, 1)
    await eventually(lambda: retrying.tracker.state(A).watermark == 2)

    assert attempts == [(0, 1), (0, 1), (0, 2), (1, 1)]
    assert stopping.tracker.propose() == {}
    assert isinstance(stopping.stopped[0].__cause__, error)


@pytest.mark.f30
@pytest.mark.rule_21
@pytest.mark.rule_30
async def test_a_handler_that_ignores_its_cancellation_holds_up_only_its_partition() -> None:
    """Others run, a stop is bounded, and the record is redelivered elsewhere."""
    engine = Engine()
    stubborn = asyncio.Event()
    handled: list[TopicPartition] = []

    async def ignore_cancellation(message: IncomingMessage) -> None:
        while message.partition == A.partition and not stubborn.is_set():
            try:
                await asyncio.shield(asyncio.ensure_future(stubborn.wait()))
            except asyncio.CancelledError:
                continue
        handled.append(TopicPartition(message.topic, message.partition))

    engine.handling.compile(lambda _: ignore_cancellation)
    engine.rebalance.assigned(frozenset([A, B]))
    engine.take(A, 0, 1)
    engine.take(B, 0, 1)
    await eventually(lambda: handled == [B, B])
    loop = asyncio.get_running_loop()

    started = loop.time()
    await engine.rebalance.stop(Shutdown(10))
    took = loop.time() - started
    stubborn.set()
    await eventually(lambda: not engine.lanes.running)

    assert took < 2
    assert engine.committed == [{B: 2}]
    assert engine.rebalance.counts["zombies"] == 1
    assert handled == [B, B, A], "the second record of the partition was never started"


@pytest.mark.rule_35
async def test_polling_ends_though_the_client_swallows_its_cancellation() -> None:
    """It would go on with a member that is closed; asyncio.wait_for does so below Python 3.12."""
    engine, polls = Engine(), 0

    class Swallowing(Member):
        async def poll(self, partitions: Any, **_: Any) -> Any:
            nonlocal polls
            polls += 1
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return {}

    polled = polling(engine, Swallowing())
    running = asyncio.create_task(polled.run())
    await eventually(lambda: polls == 1)

    polled.is_ended = True
    running.cancel()
    await asyncio.wait([running], timeout=1)

    assert running.done()
    assert polls == 1

"""When commits are sent, and what their answers mean (rules 4 to 6; K16 to K20)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core.consumer.commits import CommitLoop, OffsetCommitter
from kafkaesk_core.errors import CommitError
from kafkaesk_core.hooks import hookimpl
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.router import Subscription
from kafkaesk_testing import eventually

A, B = TopicPartition("topic", 0), TopicPartition("topic", 1)


async def handle(data: bytes) -> None: ...


SUBSCRIPTION = Subscription("topic", handle, "group", topics=["topic"])


class Broker:
    """Stores what it is sent, unless told to answer otherwise."""

    def __init__(self) -> None:
        self.sent: list[dict[TopicPartition, int]] = []
        self.answer: CommitResult | None = None
        self.is_silent = False
        self.running = 0

    async def __call__(self, offsets: Mapping[TopicPartition, int], timeout: float) -> CommitResult:
        self.sent.append(dict(offsets))
        self.running += 1
        try:
            if self.is_silent:
                await asyncio.sleep(60)
        finally:
            self.running -= 1
        return self.answer or CommitResult(stored=set(offsets))


def given(
    done: int = 3, progress: Mapping[TopicPartition, tuple[int, int]] | None = None
) -> tuple[OffsetCommitter, Broker, OffsetTracker[TopicPartition]]:
    tracker: OffsetTracker[TopicPartition] = OffsetTracker()
    tracker.assign([A, B])
    for partition in (A, B):
        epoch = tracker.register(partition, list(range(10)), now=0.0)
        for offset in range(done):
            tracker.finish(partition, epoch, offset)
    broker = Broker()
    commits = OffsetCommitter(
        tracker,
        broker,
        group="group",
        timeout=0.2,
        subscription_of=lambda _: SUBSCRIPTION,
        progress=lambda _: progress or {},
    )
    commits.resume()
    return commits, broker, tracker


def put_around(commits: OffsetCommitter, layer: Callable[[Any, Any], Any]) -> None:
    """Put one layer around all commits."""

    class Plugin:
        @hookimpl
        async def wrap_commit(self, offsets: Any, call_next: Any) -> None:
            await layer(offsets, call_next)

    plugins = Plugins()
    plugins.register(Plugin())
    app: Any = None
    commits.compile(plugins, app, [SUBSCRIPTION])


async def test_what_is_done_is_sent_once() -> None:
    commits, broker, _ = given()

    await commits.commit("interval")
    await commits.commit("interval")

    assert broker.sent == [{A: 3, B: 3}]


@pytest.mark.rule_1
async def test_what_the_client_has_passed_over_is_committed_with_what_is_done() -> None:
    """The marker of a transaction, behind its last record."""
    commits, broker, _ = given(done=10, progress={A: (0, 12)})

    await commits.commit("interval")

    assert broker.sent == [{A: 12, B: 10}]


@pytest.mark.rule_17
async def test_where_handlers_commit_only_gaps_are_committed_for_them() -> None:
    commits, broker, tracker = given(done=10)
    await commits.commit("manual")
    epoch = tracker.register(B, [10], now=0.0)
    tracker.finish(B, epoch, 10)
    tracker.advance(A, 0, 12)

    await commits.commit("interval", only_gaps=True)

    assert broker.sent == [{A: 10, B: 10}, {A: 12}]


@pytest.mark.rule_9
async def test_nothing_is_sent_when_nothing_is_done() -> None:
    commits, broker, _ = given(done=0)

    await commits.commit("interval")

    assert broker.sent == []


@pytest.mark.rule_5
async def test_nothing_is_sent_between_revocation_and_assignment() -> None:
    commits, broker, _ = given()

    await commits.suspend()

    with pytest.raises(CommitError, match="handed over"):
        await commits.commit("interval")
    assert broker.sent == []


@pytest.mark.k17
async def test_a_commit_in_flight_has_ended_when_close_returns() -> None:
    """One that outlives the revocation could move the next owner's offset back."""
    commits, broker, tracker = given()
    broker.is_silent = True
    committing = asyncio.create_task(commits.commit("interval"))
    await eventually(lambda: broker.running)

    await commits.suspend()

    assert broker.running == 0
    with pytest.raises(CommitError):
        await committing
    assert tracker.propose() == {A: 3, B: 3}


@pytest.mark.k20
@pytest.mark.rule_6
async def test_an_unanswered_commit_is_bounded_and_sent_again() -> None:
    """It may have been applied."""
    commits, broker, _ = given()
    broker.is_silent = True

    with pytest.raises(CommitError, match=r"0\.2s"):
        await commits.commit("interval")
    await eventually(lambda: broker.running == 0)
    broker.is_silent = False
    await commits.commit("interval")

    assert broker.sent == [{A: 3, B: 3}, {A: 3, B: 3}]


async def test_a_refused_partition_does_not_keep_others_from_being_stored() -> None:
    commits, broker, tracker = given()
    broker.answer = CommitResult(stored={A}, refused={B: "TopicAuthorizationFailedError"})

    with pytest.raises(CommitError, match=r"topic\[1\] TopicAuthorizationFailedError"):
        await commits.commit("interval")

    assert tracker.propose() == {B: 3}


@pytest.mark.f32
@pytest.mark.k18
@pytest.mark.k67
async def test_a_topic_that_the_coordinator_does_not_know_is_followed_on_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Deleted, it is revoked; new to the coordinator, it must still be read."""
    commits, broker, tracker = given()
    broker.answer = CommitResult(stored={A}, gone={B})

    await commits.commit("interval")
    broker.answer = CommitResult(gone={B})
    await commits.commit("stop")

    assert list(tracker) == [A, B]
    assert [record.getMessage() for record in caplog.records] == [
        "group group: the coordinator does not know topic topic; was it deleted?"
    ]
    assert commits.counts["postponed"] == 0
    broker.answer = None
    await commits.commit("interval")
    assert broker.sent == [{A: 3, B: 3}, {B: 3}, {B: 3}]
    assert tracker.propose() == {}


@pytest.mark.k59
async def test_lost_membership_is_an_error_and_stores_nothing() -> None:
    """Codes 22 and 25."""
    commits, broker, tracker = given()
    broker.answer = CommitResult(is_lost=True)

    with pytest.raises(CommitError, match="others"):
        await commits.commit("interval")

    assert tracker.propose() == {A: 3, B: 3}


@pytest.mark.rule_6
@pytest.mark.k63
async def test_only_one_commit_is_in_flight_and_waiting_ones_coalesce() -> None:
    commits, broker, _ = given()

    await asyncio.gather(*(commits.commit("manual") for _ in range(5)))

    assert broker.sent == [{A: 3, B: 3}]


@pytest.mark.rule_4
@pytest.mark.d8
async def test_a_layer_can_neither_run_ahead_nor_commit_what_is_not_owned() -> None:
    commits, broker, tracker = given()

    async def greedy(offsets: Any, call_next: Any) -> None:
        await call_next({A: 99, TopicPartition("other", 0): 5})

    put_around(commits, greedy)
    await commits.commit("interval")

    assert broker.sent == [{A: 3}]
    assert tracker.propose() == {B: 3}


@pytest.mark.d8
async def test_a_layer_that_postpones_on_stop_is_told_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    commits, broker, _ = given()

    async def later(offsets: Any, call_next: Any) -> None: ...

    put_around(commits, later)
    await commits.commit("stop")

    assert broker.sent == []
    assert commits.counts["postponed"] == 2
    assert "stay uncommitted on stop" in caplog.text


@pytest.mark.f45
@pytest.mark.d8
async def test_a_layer_that_hangs_is_bounded_by_commit_timeout() -> None:
    commits, _, tracker = given()

    async def hang(offsets: Any, call_next: Any) -> None:
        await asyncio.sleep(60)

    put_around(commits, hang)
    with pytest.raises(CommitError, match="not finished"):
        await commits.commit("interval")

    assert tracker.propose() == {A: 3, B: 3}


@pytest.mark.rule_6
@pytest.mark.parametrize("end", ["unanswered", "interrupted", "stored"])
async def test_what_a_commit_may_have_stored_of_before_a_rewind_is_committed_over(
    end: str,
) -> None:
    """A crash before the next record is done would go on at the old offset, and skip to there."""
    commits, broker, tracker = given()
    rewound = asyncio.Event()

    async def send(offsets: Mapping[TopicPartition, int], timeout: float) -> CommitResult:
        broker.sent.append(dict(offsets))
        await rewound.wait()
        if end == "unanswered" and len(broker.sent) == 1:
            raise CommitError("not answered")
        return CommitResult(stored=set(offsets))

    commits._send = send
    committing = asyncio.create_task(commits.commit("interval"))
    await eventually(lambda: broker.sent)

    tracker.start_at(A, 1)
    if end == "interrupted":
        committing.cancel()
    rewound.set()
    await asyncio.wait([committing])
    await commits.commit("interval")

    assert broker.sent[1][A] == 1
    assert tracker.propose() == {}


async def test_a_layer_that_sends_an_unanswered_commit_again_leaves_nothing_uncommitted() -> None:
    """Else the gaps behind it would count as records that their handler has not committed."""
    commits, broker, tracker = given(done=10)

    async def again(offsets: Any, call_next: Any) -> None:
        broker.is_silent = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await call_next(offsets)
        broker.is_silent = False
        await call_next(offsets)

    put_around(commits, again)
    await commits.commit("manual")
    tracker.advance(A, 0, 12)

    assert tracker.state(A).uncommitted == 0
    assert tracker.propose(only_gaps=True) == {A: 12}


@pytest.mark.rule_35
async def test_a_stop_ends_the_commits_also_where_a_layer_swallows_its_cancellation() -> None:
    """As asyncio.wait_for does before Python 3.12 when what it waits for is just done."""
    commits, _, _tracker = given()
    commits._timeout = 60
    began = asyncio.Event()

    async def swallow(offsets: Any, call_next: Any) -> None:
        if began.is_set():  # the next commit: none is to come
            raise asyncio.CancelledError
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    class Member:
        is_stable = True

        def progress(self, _: Any) -> dict[TopicPartition, tuple[int, int]]:
            return {}

    member: Any = Member()
    put_around(commits, swallow)
    loop = CommitLoop(commits, lambda: member, interval=0.01, only_gaps=False)
    running = asyncio.create_task(loop.run())
    await began.wait()

    loop.is_ended = True
    running.cancel()

    await asyncio.wait([running], timeout=5)
    assert running.done()
    assert not running.cancelled(), "no other commit was begun"

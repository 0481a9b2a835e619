"""The tracker keeps rules 1 to 4 and 9 whatever comes in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kafkaesk_core.offsets import OffsetTracker

PARTITIONS = ["a", "b"]


@pytest.mark.rule_9
@pytest.mark.u24
def test_nothing_is_proposed_before_anything_is_finished() -> None:
    """Positions are not progress."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])

    tracker.register("a", [7, 8, 9], now=0.0)

    assert tracker.propose() == {}


@pytest.mark.rule_1
@pytest.mark.u3
def test_the_watermark_waits_for_the_lowest_open_offset() -> None:
    """Offset 9 is done, 8 is not, so 8 may be committed and not 10."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    epoch = tracker.register("a", [7, 8, 9], now=0.0)

    tracker.finish("a", epoch, 7)
    tracker.finish("a", epoch, 9)

    assert tracker.propose() == {"a": 8}
    tracker.finish("a", epoch, 8)
    assert tracker.propose() == {"a": 10}


def test_gaps_in_the_log_are_not_waited_for() -> None:
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    epoch = tracker.register("a", [0, 4, 9], now=0.0)

    for offset in (9, 0, 4):
        tracker.finish("a", epoch, offset)

    assert tracker.propose() == {"a": 10}


@pytest.mark.rule_3
def test_a_completion_of_an_earlier_epoch_changes_nothing_and_is_counted() -> None:
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    old = tracker.register("a", [0], now=0.0)
    tracker.revoke(["a"])
    tracker.assign(["a"])
    tracker.register("a", [0], now=0.0)

    assert not tracker.finish("a", old, 0)

    assert tracker.propose() == {}
    assert tracker.stale_completions == 1


@pytest.mark.rule_3
def test_a_finisher_of_an_earlier_epoch_closes_nothing() -> None:
    """What is faster is not looser."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    tracker.register("a", [0, 1], now=0.0)
    revoked = tracker.finisher("a")
    tracker.revoke(["a"])
    tracker.assign(["a"])
    tracker.register("a", [0, 1], now=0.0)
    rewound = tracker.finisher("a")
    tracker.start_at("a", 0)
    tracker.register("a", [0, 1], now=0.0)

    assert not revoked(0)
    assert not rewound(0)

    assert tracker.propose() == {}
    assert tracker.finisher("a")(0)
    assert tracker.propose() == {"a": 1}


@pytest.mark.rule_2
@pytest.mark.u9
def test_a_rewind_is_followed_by_a_new_epoch() -> None:
    """After a seek back to 10 the commit goes back to 11."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    epoch = tracker.register("a", [1000], now=0.0)
    tracker.finish("a", epoch, 1000)
    tracker.acknowledge("a", epoch, 1001)

    tracker.start_at("a", 10)
    rewound = tracker.register("a", [10], now=0.0)
    tracker.finish("a", rewound, 10)

    assert tracker.propose() == {"a": 11}
    assert not tracker.finish("a", epoch, 1000)


@pytest.mark.rule_9
def test_a_start_at_the_end_owes_a_commit_of_that_position() -> None:
    """With auto_offset_reset=latest a restart before the first commit skips nothing."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])

    tracker.start_at("a", 42, commit=True)

    assert tracker.propose() == {"a": 42}


@pytest.mark.rule_6
@pytest.mark.u26
def test_an_unanswered_commit_is_proposed_again() -> None:
    """Acknowledged values alone count."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    epoch = tracker.register("a", [0, 1], now=0.0)
    tracker.finish("a", epoch, 0)
    tracker.acknowledge("a", epoch, 1)

    tracker.mark_uncertain(["a"])

    assert tracker.propose() == {"a": 1}
    tracker.acknowledge("a", epoch, 1)
    assert tracker.propose() == {}


@pytest.mark.rule_4
@pytest.mark.d8
def test_offsets_are_clamped_to_what_is_done_and_owned() -> None:
    """A layer around a commit can run neither ahead nor back, nor name others'."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    epoch = tracker.register("a", [5, 6, 7], now=0.0)
    tracker.finish("a", epoch, 5)

    assert tracker.clamp({"a": 99, "other": 3}) == {"a": 6}
    assert tracker.clamp({"a": 2}) == {}


def test_the_age_is_that_of_the_oldest_open_record() -> None:
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    epoch = tracker.register("a", [0, 1], now=10.0)
    tracker.register("a", [2], now=20.0)

    assert tracker.state("a").oldest_since == 10.0
    tracker.finish("a", epoch, 1)
    assert tracker.state("a").oldest_since == 10.0
    tracker.finish("a", epoch, 0)
    assert tracker.state("a").oldest_since == 20.0
    tracker.finish("a", epoch, 2)
    assert tracker.state("a").oldest_since is None


@pytest.mark.rule_1
def test_gaps_behind_the_last_record_are_passed_over_when_nothing_is_open() -> None:
    """Markers of transactions, aborted and compacted records at the end of the log."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    epoch = tracker.register("a", [4, 6], now=0.0)
    tracker.advance("a", 4, 13)

    assert tracker.propose() == {}
    tracker.finish("a", epoch, 6)
    assert tracker.propose() == {}
    tracker.finish("a", epoch, 4)
    assert tracker.propose() == {"a": 13}
    tracker.acknowledge("a", epoch, 13)
    assert tracker.propose() == {}
    assert tracker.state("a").uncommitted == 0


def test_a_log_of_nothing_but_gaps_is_passed_over() -> None:
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a", "b"])

    tracker.advance("a", 4, 13)
    tracker.advance("b", 7, 7)

    assert tracker.propose() == {"a": 13}, "b stands where the group has committed"


@pytest.mark.rule_17
def test_gaps_alone_are_committed_where_handlers_commit() -> None:
    """A record that its handler has not committed holds back what follows it."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a", "b", "c"])
    for partition in "ab":
        epoch = tracker.register(partition, [0], now=0.0)
        tracker.finish(partition, epoch, 0)
    assert tracker.propose() == {"a": 1, "b": 1}
    tracker.acknowledge("a", tracker.epoch("a"), 1)
    for partition in "abc":
        tracker.advance(partition, 0, 5)

    assert tracker.propose(only_gaps=True) == {"a": 5, "c": 5}


class _Model:
    """What a partition should be, kept the slow and obvious way."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next: int | None = None
        self.open: set[int] = set()
        self.finished: set[int] = set()
        self.stored: int | None = None

    @property
    def watermark(self) -> int | None:
        return min(self.open) if self.open else self.next


class OffsetMachine(RuleBasedStateMachine):
    """Any interleaving of assign, register, finish, revoke, seek and the results of commits."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker: OffsetTracker[str] = OffsetTracker()
        self.models: dict[str, _Model] = {}
        self.in_flight: tuple[dict[str, int], dict[str, int]] | None = None
        self.past: list[tuple[str, int, int, Callable[[int], bool]]] = []

    @initialize()
    def start(self) -> None:
        self.assign("a")

    @rule(partition=st.sampled_from(PARTITIONS))
    def assign(self, partition: str) -> None:
        self.tracker.assign([partition])
        epoch = self.tracker.epoch(partition)
        assert epoch is not None
        self.models[partition] = _Model(epoch)

    @rule(partition=st.sampled_from(PARTITIONS))
    def revoke(self, partition: str) -> None:
        self.tracker.revoke([partition])
        self.models.pop(partition, None)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), gaps=st.lists(st.integers(0, 3), min_size=1, max_size=5))
    def register(self, data: st.DataObject, gaps: list[int]) -> None:
        partition = data.draw(st.sampled_from(sorted(self.models)))
        model = self.models[partition]
        position = model.next or 0
        offsets = []
        for gap in gaps:
            offsets.append(position + gap)
            position += gap + 1
        epoch = self.tracker.register(partition, offsets, now=0.0)
        assert epoch == model.epoch
        model.open.update(offsets)
        model.next = position
        finisher = self.tracker.finisher(partition)
        self.past.extend((partition, epoch, offset, finisher) for offset in offsets)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), gap=st.integers(0, 3))
    def advance(self, data: st.DataObject, gap: int) -> None:
        partition = data.draw(st.sampled_from(sorted(self.models)))
        model = self.models[partition]
        model.next = (model.next or 0) + gap
        self.tracker.advance(partition, 0, model.next)

    @precondition(lambda self: self.past)
    @rule(data=st.data(), directly=st.booleans())
    def finish(self, data: st.DataObject, directly: bool) -> None:
        partition, epoch, offset, finisher = data.draw(st.sampled_from(self.past))
        model = self.models.get(partition)
        counts = model is not None and model.epoch == epoch and offset in model.open
        finished = finisher(offset) if directly else self.tracker.finish(partition, epoch, offset)
        assert finished == counts
        if counts and model is not None:
            model.open.discard(offset)
            model.finished.add(offset)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def finish_lowest(self, data: st.DataObject) -> None:
        partition, epoch, _, _ = data.draw(st.sampled_from(self.past))
        registered = sorted({o for p, e, o, _ in self.past if (p, e) == (partition, epoch)})
        chosen = data.draw(st.sets(st.sampled_from(registered), min_size=1))
        start = data.draw(st.sampled_from(registered))
        run = [one for one in registered if one >= start][: len(chosen)]
        offsets = data.draw(st.sampled_from([sorted(chosen), run]))
        model = self.models.get(partition)
        counts = (
            model is not None
            and model.epoch == epoch
            and sorted(model.open)[: len(offsets)] == offsets
            and not any(one > offsets[0] for one in model.finished)
        )
        assert self.tracker.finish_lowest(partition, epoch, offsets) == counts
        if counts and model is not None:
            model.open.difference_update(offsets)
            model.finished.update(offsets)

    @precondition(lambda self: self.in_flight is None)
    @rule()
    def commit(self) -> None:
        proposal = self.tracker.propose()
        for partition, offset in proposal.items():
            assert offset == self.models[partition].watermark
        self.in_flight = proposal, {p: self.models[p].epoch for p in proposal}

    @precondition(lambda self: self.in_flight is not None)
    @rule(answer=st.sampled_from(["stored", "refused", "silent"]))
    def answer(self, answer: str) -> None:
        assert self.in_flight is not None
        proposal, epochs = self.in_flight
        self.in_flight = None
        if answer == "silent":
            self.tracker.mark_uncertain(proposal)
        if answer != "stored":
            return
        for partition, offset in proposal.items():
            self.tracker.acknowledge(partition, epochs[partition], offset)
            model = self.models.get(partition)
            if model is not None and model.epoch == epochs[partition]:
                assert model.stored is None or offset >= model.stored  # rule 2
                model.stored = offset

    @invariant()
    def the_watermark_is_the_lowest_open_offset(self) -> None:
        for partition, model in self.models.items():
            assert self.tracker.state(partition).watermark == model.watermark
            assert self.tracker.state(partition).open == len(model.open)

    @invariant()
    def nothing_open_lies_below_what_is_proposed(self) -> None:
        if self.in_flight is not None:
            return
        for partition, offset in self.tracker.propose().items():
            assert all(offset <= still_open for still_open in self.models[partition].open)


TestOffsetMachine = OffsetMachine.TestCase
TestOffsetMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

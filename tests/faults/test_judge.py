"""The judge condemns what is wrong, and nothing else: journals written by hand."""

from __future__ import annotations

import signal
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from faults.evidence import Evidence
from faults.judge import judged
from faults.log import Log
from faults.verdict import Verdict
from faults.workload import Order, Workload

P, Q = "topic:0", "topic:1"


class FakeProcess:
    """One that has ended."""

    def __init__(self, journal: Path, ended_at: int, ended_by: Signals | None) -> None:
        self.name = journal.stem
        self.journal = journal
        self.ended_at = ended_at
        self.ended_by = ended_by
        self.silenced: list[tuple[int, int]] = []


class Run:
    """A crew that has run, and the log it leaves: records of key 1, one per offset of P."""

    def __init__(self, folder: Path, *, ordering: Any = "partition", records: int = 3) -> None:
        self.workload = Workload("test", ordering=ordering)
        self.members: list[FakeProcess] = []
        self.published = [folder / "publisher.journal"]
        self.log = Log(ends={P: records}, committed={P: records})
        self._folder = folder
        lines = []
        for number in range(records):
            self.log.orders[P, number] = Order(id=number, key=1, seq=number)
            lines += [f"sent 1 {number} 1 {number}", f"acked 2 {number} {P} {number}"]
        self.published[0].write_text("\n".join(lines) + "\n")

    def member(
        self, *lines: str, ended_at: int = 1000, ended_by: Signals | None = signal.SIGTERM
    ) -> FakeProcess:
        """One member, by what it has written down."""
        journal = self._folder / f"member-{len(self.members)}.journal"
        journal.write_text("\n".join(lines) + "\n")
        process = FakeProcess(journal, ended_at, ended_by)
        self.members.append(process)
        return process

    def verdict(self) -> Verdict:
        """What the judge says."""
        crew: Any = self
        return judged(Evidence(crew), self.log)


def handled(offset: int, began: int, over: int) -> str:
    """The lines of one handling that ended well."""
    return f"begin {began} {offset} {P} {offset}\nend {over} {offset} {P} {offset}"


def test_a_run_in_which_all_was_kept_is_not_condemned(tmp_path: Path) -> None:
    run = Run(tmp_path)
    lines = [handled(n, 20 + 10 * n, 25 + 10 * n) for n in range(3)]
    run.member(f"assigned 10 {P}", *lines, f"committed 60 stop {P} 3", f"revoked 61 {P}")

    assert run.verdict().violations() == []


def test_a_record_that_nobody_handled_is_lost_by_the_consumer(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.member(f"assigned 10 {P}", handled(0, 20, 25), handled(2, 40, 45))

    verdict = run.verdict()

    assert (verdict.lost, verdict.lost_by) == (1, {"consumer": 1})


def test_a_record_that_is_not_in_the_log_is_lost_by_the_broker(tmp_path: Path) -> None:
    run = Run(tmp_path)
    del run.log.orders[P, 1]
    run.member(f"assigned 10 {P}", handled(0, 20, 25), handled(2, 40, 45))

    assert run.verdict().lost_by == {"broker": 1}


def test_a_later_record_that_begins_first_is_out_of_order(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.member(f"assigned 10 {P}", handled(1, 20, 25), handled(0, 30, 35), handled(2, 40, 45))

    assert run.verdict().disordered == 1


def test_a_commit_before_the_end_of_a_handler_is_ahead(tmp_path: Path) -> None:
    run = Run(tmp_path)
    lines = (handled(0, 20, 25), f"committed 28 interval {P} 2", handled(1, 26, 30))
    run.member(f"assigned 10 {P}", *lines, handled(2, 40, 45))

    assert run.verdict().commits_ahead == 1


def test_a_commit_of_who_has_handed_the_partition_over_is_not_owned(tmp_path: Path) -> None:
    run = Run(tmp_path)
    lines = [handled(n, 20 + 10 * n, 25 + 10 * n) for n in range(3)]
    run.member(f"assigned 10 {P}", *lines, f"revoked 50 {P}", f"committed 60 interval {P} 3")

    assert run.verdict().commits_unowned == 1


def test_what_is_not_committed_at_the_end_is_a_record_or_a_gap(tmp_path: Path) -> None:
    run = Run(tmp_path)
    lines = [handled(n, 20 + n, 21 + n) for n in range(3)]
    run.member(f"assigned 10 {P}", *lines, f"committed 40 interval {P} 2", f"revoked 50 {P}")
    run.log.committed, run.log.ends = {P: 2}, {P: 5}  # an aborted record and its marker

    verdict = run.verdict()

    assert (verdict.uncommitted_at_end, verdict.gaps_at_end) == (1, 2)
    assert verdict.violations() == [
        "1 handled and not committed at the end",
        "2 offsets without a record that the group never passed",
    ]


def test_a_kill_costs_what_was_finished_and_not_committed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    told = (f"assigned 10 {P}", handled(0, 20, 25), handled(1, 30, 35), "status 36 1 0")
    run.member(*told, ended_at=40, ended_by=signal.SIGKILL)
    run.member(f"assigned 50 {P}", *(handled(n, 60 + 10 * n, 65 + 10 * n) for n in range(3)))

    verdict = run.verdict()

    assert verdict.redelivered_by == {"kill": 2}
    assert (verdict.kill_costs, verdict.kill_bounds) == ([2], [1])
    assert verdict.kills_over_bound == 1


@pytest.mark.d24
def test_what_a_handover_costs_is_not_the_cost_of_a_later_kill(tmp_path: Path) -> None:
    """Record 1, finished above one that waited for its retry, was handed over."""
    run = Run(tmp_path, ordering="unordered")
    first = (f"assigned 10 {P}", handled(1, 20, 25), f"revoked 30 {P}", f"assigned 31 {P}")
    run.member(*first, "status 32 0 0", ended_at=40, ended_by=signal.SIGKILL)
    run.member(f"assigned 50 {P}", *(handled(n, 60 + 10 * n, 65 + 10 * n) for n in range(3)))

    verdict = run.verdict()

    assert verdict.redelivered_by == {"handover": 1}
    assert (verdict.kill_costs, verdict.kill_bounds) == ([0], [0])


def test_a_record_that_is_handled_again_after_a_clean_handover_has_no_excuse(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path)
    run.member(f"assigned 10 {P}", handled(0, 20, 25), f"revoked 30 {P}")
    run.member(f"assigned 40 {P}", *(handled(n, 60 + 10 * n, 65 + 10 * n) for n in range(3)))

    assert run.verdict().redelivered_by == {"handover": 1}


def test_two_members_that_both_own_the_partition_overlap(tmp_path: Path) -> None:
    run = Run(tmp_path, ordering="unordered")
    run.member(f"assigned 10 {P}", *(handled(n, 20, 90) for n in range(3)), f"revoked 95 {P}")
    run.member(f"assigned 40 {P}", handled(0, 50, 60))

    assert run.verdict().overlaps == 1


def test_who_was_frozen_and_does_not_know_yet_overlaps_with_nobody(tmp_path: Path) -> None:
    run = Run(tmp_path, ordering="unordered")
    frozen = run.member(f"assigned 10 {P}", handled(0, 55, 58), f"lost 70 {P}", f"assigned 80 {Q}")
    frozen.silenced.append((20, 54))
    run.member(f"assigned 40 {P}", *(handled(n, 50, 60) for n in range(3)))

    verdict = run.verdict()

    assert verdict.overlaps == 0
    assert verdict.redelivered_by == {"orphaned": 1}


def test_the_order_in_the_log_is_that_of_a_partition(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log.orders[Q, 0] = run.log.orders.pop((P, 0))
    lines = [handled(n, 20 + 10 * n, 25 + 10 * n) for n in range(1, 3)]
    run.member(f"assigned 10 {P} {Q}", *lines)
    assert run.verdict().disordered_in_log == 0

    run.log.orders[P, 1], run.log.orders[P, 2] = run.log.orders[P, 2], run.log.orders[P, 1]

    assert run.verdict().disordered_in_log == 1


def dying(run: Run, offset: int) -> None:
    """Let no attempt handle the record of this offset."""
    run.log.orders[P, offset] = Order(id=offset, key=1, seq=offset, do="die")


def failed(offset: int, began: int, over: int) -> str:
    """The lines of one attempt that failed."""
    return f"begin {began} {offset} {P} {offset}\nbroken {over} {offset} {P} {offset}"


def test_a_record_whose_dead_letter_is_written_is_done(tmp_path: Path) -> None:
    run = Run(tmp_path)
    dying(run, 1)
    run.log.letters.update([1])
    lines = (
        handled(0, 20, 25),
        failed(1, 30, 31),
        failed(1, 32, 33),
        f"dead 34 1 {P} 1",
        handled(2, 40, 45),
    )
    run.member(f"assigned 10 {P}", *lines, f"committed 60 stop {P} 3", f"revoked 61 {P}")

    verdict = run.verdict()

    assert verdict.violations() == []
    assert (verdict.dead, verdict.dead_twice, verdict.handled) == (1, 0, 3)


def test_a_commit_before_the_dead_letter_is_written_is_ahead(tmp_path: Path) -> None:
    run = Run(tmp_path)
    dying(run, 1)
    run.log.letters.update([1])
    lines = (handled(0, 20, 25), failed(1, 30, 31), f"committed 33 interval {P} 2")
    run.member(f"assigned 10 {P}", *lines, f"dead 34 1 {P} 1", handled(2, 40, 45))

    assert run.verdict().commits_ahead == 1


def test_what_no_attempt_can_handle_is_lost_without_a_dead_letter_in_the_log(
    tmp_path: Path,
) -> None:
    """Whatever a member says of it."""
    run = Run(tmp_path)
    dying(run, 1)
    lines = (handled(0, 20, 25), failed(1, 30, 31), f"dead 34 1 {P} 1", handled(2, 40, 45))
    run.member(f"assigned 10 {P}", *lines)

    assert run.verdict().lost_by == {"consumer": 1}


def test_dead_letters_are_counted_also_where_they_should_not_be(tmp_path: Path) -> None:
    run = Run(tmp_path)
    dying(run, 1)
    run.log.letters.update([1, 1, 1, 2])
    run.member(f"assigned 10 {P}", *(handled(n, 20 + 10 * n, 25 + 10 * n) for n in range(3)))

    verdict = run.verdict()

    assert (verdict.dead, verdict.dead_twice, verdict.dead_wrongly) == (2, 2, 1)
    assert "1 dead letters of records that could be handled" in verdict.violations()

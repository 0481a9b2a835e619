"""The verdict on one workload: records lost, doubled, reordered, or committed too early.

The judge uses the journals of publishers, handlers and commits, and the state of the brokers as a
plain client sees it. It does not trust the engine's own statements, and uses only one of them: the
announced cost of a kill, which it checks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from .evidence import NEVER, Evidence, Handled, Member, Place
from .log import Log
from .verdict import Verdict

__all__ = ["judged"]

ByPlace = Mapping[Place, list[Handled]]


def judged(evidence: Evidence, log: Log) -> Verdict:
    """Compare the published orders, the handled records, and the content of the brokers."""
    by_place = evidence.by_place()
    done = {place: first for place, ones in by_place.items() if (first := _first_done(ones))}
    counts = evidence.counts()
    verdict = Verdict(
        handled=len(done),
        deliveries=sum(one.is_done for ones in by_place.values() for one in ones),
        phantoms=sum(one.order not in evidence.sent for one in done.values()),
        disordered=sum(_disordered(evidence, by_place)),
        overlaps=sum(1 for ones in by_place.values() for _ in _overlaps(ones)),
        rebalances=len(evidence.generations()),
        losses=counts["lost"],
    )
    _judge_publishing(verdict, evidence, log)
    _judge_losses(verdict, evidence, log, done)
    _judge_repeats(verdict, evidence, by_place)
    _judge_commits(verdict, evidence, log, done)
    _judge_ends(verdict, evidence)
    return verdict


def _first_done(ones: Iterable[Handled]) -> Handled | None:
    done = [one for one in ones if one.is_done]
    return min(done, key=lambda one: one.over) if done else None


# --- publishing


def _judge_publishing(verdict: Verdict, evidence: Evidence, log: Log) -> None:
    """Check that each order has an outcome and is in the log at most once, in its key's order."""
    verdict.sent, verdict.acked = len(evidence.sent), len(evidence.acked)
    verdict.failed, verdict.unknown = len(evidence.failed), len(evidence.unknown)
    verdict.unresolved = verdict.sent - verdict.acked - verdict.failed - verdict.unknown
    copies = Counter(order.id for order in log.orders.values())
    verdict.in_log = len(log.orders)
    verdict.doubled_in_log = sum(count - 1 for count in copies.values())
    verdict.failed_in_log = sum(number in copies for number in evidence.failed)
    last: dict[tuple[str, int], int] = {}  # Kafka's order is that of a partition
    for (partition, _), order in sorted(log.orders.items()):
        lane = partition, order.key
        verdict.disordered_in_log += order.seq < last.get(lane, -1)
        last[lane] = max(order.seq, last.get(lane, -1))


def _judge_losses(
    verdict: Verdict, evidence: Evidence, log: Log, done: Mapping[Place, Handled]
) -> None:
    """Find acknowledged orders that were never handled; the log shows which side lost them.

    A record that no attempt can handle must have a dead letter in the log. A second letter is
    possible if the member died between the acknowledgement and the commit.
    """
    in_log = {order.id for order in log.orders.values()}
    dying = {order.id for order in log.orders.values() if order.do == "die"}
    handled = {one.order for one in done.values() if one.order not in dying}
    handled |= dying & log.letters.keys()
    verdict.dead = len(log.letters)
    verdict.dead_twice = log.letters.total() - verdict.dead
    verdict.dead_wrongly = len(log.letters.keys() - dying)
    lost = Counter(
        "consumer" if number in in_log else "broker"
        for number in evidence.acked
        if number not in handled
    )
    verdict.lost, verdict.lost_by = lost.total(), dict(lost)


# --- handling


def _judge_repeats(verdict: Verdict, evidence: Evidence, by_place: ByPlace) -> None:
    """Find the records handled again, with the reasons, and the cost of each kill."""
    causes: Counter[str] = Counter()
    costs: Counter[Member] = Counter()
    for ones in by_place.values():
        for before, after in pairwise(ones):
            cause = _cause(before, after)
            if before.is_done:
                causes[cause] += 1
            if cause == "kill":
                costs[before.member] += 1
    verdict.redelivered, verdict.redelivered_by = causes.total(), dict(causes)
    for member in evidence.members:
        if member.was_killed and (bound := _bound(member)) is not None:
            verdict.kill_costs.append(costs[member])
            verdict.kill_bounds.append(bound)


def _cause(before: Handled, after: Handled) -> str:
    """Return why a record was handled again.

    kill: the first member owned the partition until it was killed, and the record was not handled
    again before. orphaned: the second member had lost the partition and did not know yet. drain:
    the first handler ran for longer than a handover waits. handover: none of these.
    """
    member, partition = before.member, before.place[0]
    if after.member.has_lost(after.began):
        return "orphaned"
    if member.has_lost(before.began):
        return "lost membership"
    outlived = member.was_killed and after.began >= member.ended_at
    if outlived and member.owns(partition, before.began, member.ended_at - 1):
        return "kill"
    if not member.owns(partition, before.began, before.until - 1):
        return "drain"
    return "handover"


def _bound(member: Member) -> int | None:
    """Return the announced cost of a kill, plus the handlings begun since then."""
    status = member.last_status()
    if status is None:
        return None
    at, number = status
    return number + sum(one.began >= at for one in member.handled)


def _disordered(evidence: Evidence, by_place: ByPlace) -> Iterator[int]:
    """Count first handlings that began before an earlier record of their lane had begun."""
    workload = evidence.workload
    if not workload.has_order:
        return
    lanes: dict[object, list[Handled]] = defaultdict(list)
    for (partition, _), ones in by_place.items():
        key = evidence.sent.get(ones[0].order, (partition, 0))[0]
        lane = partition if workload.ordering == "partition" else (partition, key)
        lanes[lane].append(ones[0])
    for ones in lanes.values():
        ones.sort(key=lambda one: one.place[1])
        yield sum(after.began < before.began for before, after in pairwise(ones))


def _overlaps(ones: list[Handled]) -> Iterator[tuple[Handled, Handled]]:
    """Find concurrent handlings of a record by members that had not lost the partition."""
    for before, after in pairwise(ones):
        partition = before.place[0]
        is_owner = before.member.owns(partition, before.began, after.began)
        if after.began < before.until and is_owner and after.member.owns(partition, after.began):
            yield before, after


# --- committing


def _judge_commits(
    verdict: Verdict, evidence: Evidence, log: Log, done: Mapping[Place, Handled]
) -> None:
    """Find commits above unhandled records, by a member without the partition, or backwards."""
    steps = _handled_by(log, done)
    highest: dict[str, int] = {}
    for commit in evidence.commits():
        verdict.commits += 1
        needed = _needed(steps.get(commit.partition, []), commit.offset)
        verdict.commits_ahead += needed > commit.at
        if not commit.member.is_silent(commit.at):
            verdict.commits_unowned += not commit.member.owns(commit.partition, commit.at)
            verdict.commits_back += commit.offset < highest.get(commit.partition, 0)
        highest[commit.partition] = max(commit.offset, highest.get(commit.partition, 0))
    for partition, end in log.ends.items():
        left = range(log.committed.get(partition, 0), end)
        records = sum((partition, offset) in log.orders for offset in left)
        verdict.uncommitted_at_end += records
        verdict.gaps_at_end += len(left) - records


def _handled_by(log: Log, done: Mapping[Place, Handled]) -> dict[str, list[tuple[int, int]]]:
    """Return, by partition, each offset with the time when all up to it was handled."""
    steps: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place in sorted(log.orders):
        partition, offset = place
        at = done[place].over if place in done else NEVER
        before = steps[partition][-1][1] if steps[partition] else 0
        steps[partition].append((offset, max(before, at)))
    return steps


def _needed(steps: list[tuple[int, int]], offset: int) -> int:
    """Return when the last record below an offset was handled."""
    index = bisect_left(steps, (offset, 0))
    return steps[index - 1][1] if index else 0


def _judge_ends(verdict: Verdict, evidence: Evidence) -> None:
    """Check the remains of members that ended gracefully."""
    for member in evidence.members:
        for event in member.events:
            if event.kind == "left":
                verdict.left_behind += sum(event.numbers)

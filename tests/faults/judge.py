"""The verdict on one workload: what was lost, doubled, reordered, committed too early.

It looks at what publishers, handlers and commits have written down, and at what a plain client
finds in the brokers; never at what the engine says of itself, but for the one promise that the
engine makes in numbers: what a kill may cost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from .evidence import Evidence, Handled, Member, Place
from .log import Log

__all__ = ["Verdict", "judged"]


@dataclass(slots=True)
class Verdict:
    """The figures of one workload in one run; `lost_by` says who lost each lost record."""

    sent: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    in_log: int = 0
    doubled_in_log: int = 0
    disordered_in_log: int = 0
    handled: int = 0
    deliveries: int = 0
    lost: int = 0
    lost_by: dict[str, int] = field(default_factory=dict)
    redelivered: int = 0
    redelivered_by: dict[str, int] = field(default_factory=dict)
    disordered: int = 0
    overlaps: int = 0
    commits: int = 0
    commits_ahead: int = 0
    phantoms: int = 0
    uncommitted_at_end: int = 0
    kill_costs: list[int] = field(default_factory=list)
    kill_bounds: list[int] = field(default_factory=list)
    assignments: int = 0
    losses: int = 0

    def violations(self) -> list[str]:
        """What must never be, in words."""
        zeroes = {
            "lost": self.lost,
            "out of order": self.disordered,
            "handled by two owners at once": self.overlaps,
            "commits ahead of what was handled": self.commits_ahead,
            "handled without having been published": self.phantoms,
            "twice in the log": self.doubled_in_log,
            "out of order in the log": self.disordered_in_log,
            "handled twice without a kill": self.redelivered_by.get("handover", 0),
            "handled and not committed at the end": self.uncommitted_at_end,
            "kills that cost more than the engine said": sum(
                cost > bound
                for cost, bound in zip(self.kill_costs, self.kill_bounds, strict=True)
            ),
        }
        return [f"{count} {what}" for what, count in zeroes.items() if count]


def judged(evidence: Evidence, log: Log) -> Verdict:
    """Compare what was published, what was handled, and what the brokers hold."""
    verdict = Verdict(
        sent=len(evidence.sent),
        acked=len(evidence.acked),
        failed=len(evidence.failed),
        unknown=len(evidence.unknown),
        in_log=len(log.orders),
        assignments=evidence.counts()["assigned"],
        losses=evidence.counts()["lost"],
    )
    by_place = evidence.by_place()
    done = {place: first for place, ones in by_place.items() if (first := _first_done(ones))}
    verdict.handled = len(done)
    verdict.deliveries = sum(one.is_done for ones in by_place.values() for one in ones)
    _judge_log(verdict, evidence, log)
    _judge_losses(verdict, evidence, log, done)
    _judge_repeats(verdict, evidence, by_place)
    _judge_commits(verdict, evidence, log, done)
    verdict.disordered = sum(_disordered(evidence, by_place))
    verdict.overlaps = sum(1 for ones in by_place.values() for _ in _overlaps(ones))
    verdict.phantoms = sum(one.order not in evidence.sent for one in done.values())
    return verdict


def _first_done(ones: Iterable[Handled]) -> Handled | None:
    done = [one for one in ones if one.is_done]
    return min(done, key=lambda one: one.over) if done else None


def _judge_log(verdict: Verdict, evidence: Evidence, log: Log) -> None:
    """What is in the topic: each order once, those of a key in the order of the calls."""
    copies = Counter(order.id for order in log.orders.values())
    verdict.doubled_in_log = sum(count - 1 for count in copies.values())
    last: dict[int, int] = {}
    for _, order in sorted(log.orders.items()):
        verdict.disordered_in_log += order.seq <= last.get(order.key, -1)
        last[order.key] = max(order.seq, last.get(order.key, -1))


def _judge_losses(
    verdict: Verdict, evidence: Evidence, log: Log, done: Mapping[Place, Handled]
) -> None:
    """Acknowledged and never handled; the log tells whether the broker or the consumer lost it."""
    in_log = {order.id for order in log.orders.values()}
    handled = {one.order for one in done.values()}
    lost = Counter(
        "consumer" if number in in_log else "broker"
        for number in evidence.acked
        if number not in handled
    )
    verdict.lost, verdict.lost_by = lost.total(), dict(lost)


def _judge_repeats(
    verdict: Verdict, evidence: Evidence, by_place: Mapping[Place, list[Handled]]
) -> None:
    """Records handled again, by what became of the member that had them before."""
    causes: Counter[str] = Counter()
    costs: Counter[Member] = Counter()
    for ones in by_place.values():
        for before, _ in pairwise(ones):
            cause = _cause(before)
            if before.is_done:
                causes[cause] += 1
            if cause == "kill":
                costs[before.member] += 1
    verdict.redelivered, verdict.redelivered_by = causes.total(), dict(causes)
    for member in evidence.members:
        if member.was_killed and (bound := _bound(member)) is not None:
            verdict.kill_costs.append(costs[member])
            verdict.kill_bounds.append(bound)


def _cause(before: Handled) -> str:
    """Why somebody else had to handle it again."""
    member = before.member
    if _lost_between(member, before.began):
        return "lost membership"
    if member.was_killed and member.owns(before.place[0], member.ended_at - 1):
        return "kill"
    return "handover"


def _lost_between(member: Member, since: int) -> bool:
    """Whether partitions were taken away from it after that, before anything was handed over."""
    for event in member.events:
        if event.at >= since and event.kind in ("lost", "revoked"):
            return event.kind == "lost"
    return False


def _bound(member: Member) -> int | None:
    """What the engine said that a kill would cost, and what has begun since it said so."""
    status = member.last_status()
    if status is None:
        return None
    at, number = status
    return number + sum(one.began >= at for one in member.handled)


def _judge_commits(
    verdict: Verdict, evidence: Evidence, log: Log, done: Mapping[Place, Handled]
) -> None:
    """No commit before everything below it was handled; at the end everything is committed."""
    handled_by: dict[int, dict[int, int]] = defaultdict(dict)
    for partition, offset in log.orders:
        one = done.get((partition, offset))
        handled_by[partition][offset] = one.over if one else 2**62
    latest: dict[int, list[tuple[int, int]]] = {}
    for partition, offsets in handled_by.items():
        running, steps = 0, []
        for offset, at in sorted(offsets.items()):
            running = max(running, at)
            steps.append((offset, running))
        latest[partition] = steps
    for at, partition, offset in evidence.commits():
        verdict.commits += 1
        verdict.commits_ahead += _needed(latest.get(partition, []), offset) > at
    for partition, end in log.ends.items():
        verdict.uncommitted_at_end += max(0, end - log.committed.get(partition, 0))


def _needed(steps: list[tuple[int, int]], offset: int) -> int:
    """When the last record below an offset was handled."""
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if steps[middle][0] < offset else (low, middle)
    return steps[low - 1][1] if low else 0


def _disordered(evidence: Evidence, by_place: Mapping[Place, list[Handled]]) -> Iterator[int]:
    """How many first handlings of each lane began after one of a later record had begun."""
    workload = evidence.workload
    if not workload.has_order:
        return
    lanes: dict[int, list[Handled]] = defaultdict(list)
    for place, ones in by_place.items():
        first = ones[0]
        key = evidence.sent.get(first.order, (place[0], 0))[0]
        lanes[place[0] if workload.ordering == "partition" else key].append(first)
    for ones in lanes.values():
        ones.sort(key=lambda one: one.place[1])
        yield sum(after.began < before.began for before, after in pairwise(ones))


def _overlaps(ones: list[Handled]) -> Iterator[tuple[Handled, Handled]]:
    """Two handlings of one record at once, though the first member still owned the partition."""
    for before, after in pairwise(ones):
        if after.began < before.until and before.member.owns(before.place[0], after.began):
            yield before, after

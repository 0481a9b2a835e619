"""The journals of one workload, in chronological order."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .crew import Crew
from .journal import Event, events
from .process import Process

__all__ = ["Commit", "Evidence", "Handled", "Member", "Place"]

Place = tuple[str, int]
"""Partition and offset."""

NEVER = 2**62


@dataclass(slots=True, eq=False)
class Handled:
    """One handling of a record by a member; `over` is 0 if the member ended first."""

    order: int
    place: Place
    member: Member
    began: int
    over: int = 0
    is_done: bool = False

    @property
    def until(self) -> int:
        """When the handling ended."""
        return self.over or self.member.ended_at


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """One acknowledged commit of one partition: the next offset to read."""

    at: int
    partition: str
    offset: int
    member: Member


@dataclass(slots=True, eq=False)
class Member:
    """The journal of one process."""

    process: Process
    events: list[Event]
    handled: list[Handled] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    owned: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # since, until
    silent: list[tuple[int, int]] = field(default_factory=list)  # since, until

    @property
    def ended_at(self) -> int:
        """When the process ended."""
        return self.process.ended_at

    @property
    def was_killed(self) -> bool:
        """Whether the process had no chance of a handover."""
        return self.process.ended_by is signal.SIGKILL

    def is_silent(self, at: int) -> bool:
        """Whether the member was frozen then, or has not rejoined since."""
        return any(since <= at < back for since, back in self.silent)

    def owns(self, partition: str, since: int, until: int | None = None) -> bool:
        """Whether the member, not frozen, believed that it had this partition all the time."""
        until = since if until is None else until
        spans = self.owned.get(partition, ())
        return any(a <= since and until < b for a, b in spans) and not self.is_silent(until)

    def has_lost(self, since: int) -> bool:
        """Whether the next rebalance took the member's partitions without a handover."""
        for event in self.events:
            if event.at >= since and event.kind in ("lost", "revoked"):
                return event.kind == "lost"
        return False

    def last_status(self) -> tuple[int, int] | None:
        """When the engine last announced the cost of a kill, and the number of records."""
        for event in reversed(self.events):
            if event.kind == "status":
                return event.at, sum(event.numbers)
        return None


class Evidence:
    """The journals of all processes of a crew."""

    def __init__(self, crew: Crew) -> None:
        self.workload = crew.workload
        self.members = [_member(process) for process in crew.members]
        self.sent: dict[int, tuple[int, int]] = {}  # key, seq
        self.acked: dict[int, Place] = {}
        self.failed: set[int] = set()
        self.unknown: set[int] = set()
        for journal in crew.published:
            self._take(events(journal))

    def _take(self, told: Iterable[Event]) -> None:
        for event in told:
            if event.kind == "sent":
                number, key, seq = event.numbers
                self.sent[number] = (key, seq)
            elif event.kind == "acked":
                self.acked[int(event.words[0])] = event.place
            elif event.kind in ("failed", "unknown"):
                getattr(self, event.kind).add(int(event.words[0]))

    @property
    def handlings(self) -> list[Handled]:
        """All handlings, by their begin."""
        found = [one for member in self.members for one in member.handled]
        return sorted(found, key=lambda one: one.began)

    def counts(self) -> Counter[str]:
        """The number of events of each kind."""
        return Counter(event.kind for member in self.members for event in member.events)

    def generations(self) -> set[int]:
        """The group's generations in which any member had an assignment."""
        told = (event for member in self.members for event in member.events)
        return {int(event.words[0]) for event in told if event.kind == "generation"}

    def by_place(self) -> dict[Place, list[Handled]]:
        """The handlings of each record by their begin, without failed ones.

        The last handling of a dead record counts as done: its dead letter was acknowledged.
        """
        found: dict[Place, list[Handled]] = defaultdict(list)
        for one in self.handlings:
            if one.is_done or not one.over:
                found[one.place].append(one)
        return found

    def commits(self) -> list[Commit]:
        """Acknowledged commits, by time."""
        found = [commit for member in self.members for commit in member.commits]
        return sorted(found, key=lambda commit: commit.at)


def _member(process: Process) -> Member:
    member = Member(process, events(process.journal))
    member.handled = list(_handlings(member))
    for event in member.events:
        if event.kind == "committed":
            member.commits += _commits(event, member)
        elif event.kind in ("assigned", "revoked", "lost"):
            _own(member, event)
    for spans in member.owned.values():
        if spans[-1][1] == 0:
            spans[-1] = (spans[-1][0], member.ended_at or NEVER)
    member.silent = list(_silences(member))
    return member


def _handlings(member: Member) -> Iterator[Handled]:
    running: dict[Place, list[Handled]] = defaultdict(list)
    latest: dict[Place, Handled] = {}
    for event in member.events:
        if event.kind == "begin":
            one = Handled(int(event.words[0]), event.place, member, event.at)
            running[one.place].append(one)
            yield one
        elif event.kind in ("end", "broken"):
            # The orphaned one may still run when it is begun again.
            one = latest[event.place] = running[event.place].pop(0)
            one.over, one.is_done = event.at, event.kind == "end"
        elif event.kind == "dead":
            one = latest[event.place]
            one.over, one.is_done = event.at, True


def _commits(event: Event, member: Member) -> list[Commit]:
    pairs = zip(event.words[1::2], event.words[2::2], strict=True)
    return [Commit(event.at, partition, int(offset), member) for partition, offset in pairs]


def _silences(member: Member) -> Iterator[tuple[int, int]]:
    joins = [event.at for event in member.events if event.kind == "assigned"]
    for since, until in member.process.silenced:
        back = next((at for at in joins if at >= until), NEVER) if until else NEVER
        yield since, back


def _own(member: Member, event: Event) -> None:
    for partition in event.words:
        spans = member.owned.setdefault(partition, [])
        if event.kind == "assigned":
            spans.append((event.at, 0))
        elif spans and spans[-1][1] == 0:
            spans[-1] = (spans[-1][0], event.at)

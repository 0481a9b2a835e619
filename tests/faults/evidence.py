"""The journals of one workload, in the order of time."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .crew import Crew
from .journal import Event, events
from .process import Process

__all__ = ["Evidence", "Handled", "Member"]

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(slots=True, eq=False)
class Handled:
    """One handling of one record by one member; `over` is 0 if it ended with its member."""

    order: int
    place: Place
    member: Member
    began: int
    over: int = 0
    is_done: bool = False

    @property
    def until(self) -> int:
        """When it ran no more."""
        return self.over or self.member.ended_at


@dataclass(slots=True, eq=False)
class Member:
    """What one process has told."""

    process: Process
    events: list[Event]
    handled: list[Handled] = field(default_factory=list)
    commits: list[tuple[int, int, int]] = field(default_factory=list)  # when, partition, offset
    owned: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # from, until

    @property
    def ended_at(self) -> int:
        """When it ended."""
        return self.process.ended_at

    @property
    def was_killed(self) -> bool:
        """Whether it had no chance to hand anything over."""
        return self.process.ended_by is signal.SIGKILL

    def owns(self, partition: int, at: int) -> bool:
        """Whether it had this partition then, as far as it knew, and was not frozen."""
        is_silent = any(since <= at for since, _ in self.process.silenced)
        return not is_silent and any(a <= at < b for a, b in self.owned.get(partition, ()))

    def last_status(self) -> tuple[int, int] | None:
        """When the engine last told what a kill would cost, and the number of records."""
        for event in reversed(self.events):
            if event.kind == "status":
                return event.at, sum(event.numbers)
        return None


class Evidence:
    """Everything that the processes of a crew have written down."""

    def __init__(self, crew: Crew) -> None:
        self.workload = crew.workload
        self.members = [_member(process) for process in crew.members]
        self.sent: dict[int, tuple[int, int]] = {}  # key, seq
        self.acked: dict[int, Place] = {}
        self.acked_at: dict[int, int] = {}
        self.failed: set[int] = set()
        self.unknown: set[int] = set()
        for publisher in crew.publishers:
            self._take(events(publisher.journal))

    def _take(self, told: Iterable[Event]) -> None:
        for event in told:
            if event.kind == "sent":
                number, key, seq = event.numbers
                self.sent[number] = (key, seq)
            elif event.kind == "acked":
                number, partition, offset = event.numbers
                self.acked[number] = (partition, offset)
                self.acked_at[number] = event.at
            elif event.kind in ("failed", "unknown"):
                getattr(self, event.kind).add(int(event.words[0]))

    @property
    def handlings(self) -> list[Handled]:
        """All, by when they began."""
        found = [one for member in self.members for one in member.handled]
        return sorted(found, key=lambda one: one.began)

    def counts(self) -> Counter[str]:
        """How often each kind of event occurred."""
        return Counter(event.kind for member in self.members for event in member.events)

    def by_place(self) -> dict[Place, list[Handled]]:
        """The handlings of each record, by when they began; those that failed are left out."""
        found: dict[Place, list[Handled]] = defaultdict(list)
        for one in self.handlings:
            if one.is_done or not one.over:
                found[one.place].append(one)
        return found

    def commits(self) -> Iterator[tuple[int, int, int]]:
        """Acknowledged commits: when, partition, offset; by time."""
        yield from sorted(commit for member in self.members for commit in member.commits)


def _member(process: Process) -> Member:
    member = Member(process, events(process.journal))
    running: dict[Place, Handled] = {}
    for event in member.events:
        if event.kind == "begin":
            order, partition, offset = event.numbers
            one = Handled(order, (partition, offset), member, event.at)
            running[one.place] = one
            member.handled.append(one)
        elif event.kind in ("end", "broken"):
            _, partition, offset = event.numbers
            one = running.pop((partition, offset))
            one.over, one.is_done = event.at, event.kind == "end"
        elif event.kind == "committed":
            pairs = list(map(int, event.words[1:]))
            places = zip(pairs[::2], pairs[1::2], strict=True)
            member.commits += [(event.at, partition, offset) for partition, offset in places]
        elif event.kind in ("assigned", "revoked", "lost"):
            _own(member, event)
    for spans in member.owned.values():
        if spans[-1][1] == 0:
            spans[-1] = (spans[-1][0], member.ended_at or 2**62)
    return member


def _own(member: Member, event: Event) -> None:
    for partition in event.numbers:
        spans = member.owned.setdefault(partition, [])
        if event.kind == "assigned":
            spans.append((event.at, 0))
        elif spans and spans[-1][1] == 0:
            spans[-1] = (spans[-1][0], event.at)

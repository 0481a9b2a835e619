"""Snapshots of a running application, as plain values that other threads may read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "GroupStatus",
    "Health",
    "LastError",
    "PartitionStatus",
    "Status",
    "SubscriptionStatus",
]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One assigned partition; offsets are next-to-read positions, ages are in seconds.

    `committed` is None until the group has committed an offset. `end` is the end of the log as of
    the last fetch, about half a second ago. `lag` is the distance from the committed offset to
    `end`; before the first commit, it is the distance from the offset at which the group began.
    `oldest_open_age` is the time for which the oldest record has been handled or has waited.
    `parked` counts the records that wait for a retry and the records behind them; `next_due` is the
    number of seconds until the first retry. While `is_paused`, no handler is started.
    """

    topic: str
    partition: int
    position: int | None
    committed: int | None
    end: int | None
    lag: int | None
    open: int
    oldest_open_age: float | None
    parked: int = 0
    next_due: float | None = None
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class LastError:
    """The last failure of a handler: the text, the record, and the time in seconds since 1970."""

    error: str
    topic: str
    partition: int
    offset: int
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class SubscriptionStatus:
    """One subscription of this process.

    `streams` are names, or one pattern. `results` are totals since the start, by kind: "done",
    "skip", "retry", "deferred", "stop", "given_up". `running` counts the records being handled.
    `parked` counts the records that wait for a retry or their due time, and the records behind
    them.
    """

    handler: str
    streams: tuple[str, ...]
    results: dict[str, int]
    running: int
    parked: int
    last_error: LastError | None = None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One consumer group of this process.

    `subscriptions` has one entry per handler, and `partitions` one per assigned partition. `counts`
    are totals since the start: handler results, commits, rebalances, and the records that
    rebalances redeliver. After a crash at most `uncommitted` + `running` records are redelivered.
    `generation` is the group's generation of the assignment; None while no partitions are assigned.
    `paused` lists what `app.pause()` holds back, with the reasons.
    """

    group: str
    is_joined: bool
    partitions: tuple[PartitionStatus, ...]
    running: int
    stuck: int
    uncommitted: int
    buffered_bytes: int
    counts: dict[str, int] = field(default_factory=dict)
    generation: int | None = None
    subscriptions: tuple[SubscriptionStatus, ...] = ()
    paused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The whole application.

    `groups` has one entry per consumer group of this process. `published` are totals since the
    start, by the outcome of the delivery. `plugins` has the plugins' reports, by name.
    """

    state: str
    groups: tuple[GroupStatus, ...] = ()
    published: dict[str, int] = field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)  # any JSON

    def as_dict(self) -> dict[str, Any]:
        """Return the same as dictionaries and lists, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the application is live (if not, restart it) and ready; `reasons` say why not."""

    is_live: bool
    is_ready: bool
    reasons: tuple[str, ...] = ()

    @property
    def is_degraded(self) -> bool:
        """Whether the application has a problem, even if it may recover by itself."""
        return bool(self.reasons)

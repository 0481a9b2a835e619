"""The figures of one workload in one run, and the violations in them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Verdict"]


@dataclass(slots=True)
class Verdict:
    """The figures found; `violations` has the conditions.

    `lost_by` says which side lost each lost record, `redelivered_by` why records were handled
    again. `kill_costs` are the records that were handled again because of each kill, `kill_bounds`
    the maxima that the engine had announced. `dead` counts records with a dead letter, `dead_twice`
    their additional letters. `gaps_at_end` are markers, aborted records and similar offsets between
    the committed offsets and the ends, which would be a permanent lag.
    """

    sent: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    unresolved: int = 0
    in_log: int = 0
    failed_in_log: int = 0
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
    commits_back: int = 0
    commits_unowned: int = 0
    phantoms: int = 0
    uncommitted_at_end: int = 0
    gaps_at_end: int = 0
    left_behind: int = 0
    dead: int = 0
    dead_twice: int = 0
    dead_wrongly: int = 0
    kill_costs: list[int] = field(default_factory=list)
    kill_bounds: list[int] = field(default_factory=list)
    rebalances: int = 0
    losses: int = 0
    ended: int = 0

    @property
    def kills_over_bound(self) -> int:
        """The number of kills that cost more than the engine had announced (rule 10)."""
        pairs = zip(self.kill_costs, self.kill_bounds, strict=True)
        return sum(cost > bound for cost, bound in pairs)

    def violations(self, *, may_repeat: bool = False) -> list[str]:
        """Return the violations as texts; `may_repeat` allows records that a handover repeats."""
        zeroes = {
            "lost": self.lost,
            "out of order": self.disordered,
            "handled by two owners at once": self.overlaps,
            "commits ahead of what was handled": self.commits_ahead,
            "commits that went back": self.commits_back,
            "commits of partitions that were not owned": self.commits_unowned,
            "handled without having been published": self.phantoms,
            "published without an outcome": self.unresolved,
            "reported as failed but written": self.failed_in_log,
            "twice in the log": self.doubled_in_log,
            "out of order in the log": self.disordered_in_log,
            "handled twice after a handover": 0
            if may_repeat
            else self.redelivered_by.get("handover", 0),
            "handled and not committed at the end": self.uncommitted_at_end,
            "offsets without a record that the group never passed": self.gaps_at_end,
            "kills that cost more than the engine said": self.kills_over_bound,
            "tasks or connections left after a stop": self.left_behind,
            "dead letters of records that could be handled": self.dead_wrongly,
        }
        return [f"{count} {what}" for what, count in zeroes.items() if count]

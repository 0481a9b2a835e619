"""The pauses that faults caused: the time to the next handled record of each partition."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from .evidence import Evidence
from .stage import Strike

__all__ = ["commit_pauses", "handling_pauses"]

Pauses = list[tuple[Strike, float]]


def handling_pauses(evidence: Evidence, strikes: Sequence[Strike]) -> Pauses:
    """Return each strike, with the longest seconds until a partition's next record was handled."""
    moments: dict[str, list[int]] = defaultdict(list)
    for one in evidence.handlings:
        if one.is_done:
            moments[one.place[0]].append(one.over)
    return _pauses(list(moments.values()), strikes)


def commit_pauses(evidence: Evidence, strikes: Sequence[Strike]) -> Pauses:
    """Return each strike, with the longest seconds until the next commit was acknowledged."""
    return _pauses([[commit.at for commit in evidence.commits()]], strikes)


def _pauses(series: Sequence[list[int]], strikes: Sequence[Strike]) -> Pauses:
    """A pause is attributed to the last strike before its end, and counts from that strike on."""
    struck = sorted(strikes, key=lambda strike: strike.at)
    times = [strike.at for strike in struck]
    longest = [0] * len(struck)
    for moments in series:
        for before, after in pairwise(sorted(moments)):
            index = bisect_right(times, after) - 1
            if index >= 0:
                pause = after - max(before, times[index])
                longest[index] = max(longest[index], pause)
    return [(strike, pause / 1e6) for strike, pause in zip(struck, longest, strict=True)]

"""What a histogram counts, without locks, and the families that Prometheus gets."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

__all__ = ["Counts", "CountsByLabels", "counts_by_labels", "histogram"]


class Counts:
    """How many values there were up to each bound, and their sum.

    It is the event loop's alone, so it takes no lock: prometheus-client's own histogram takes two
    for each value, which costs six times as much.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The counts as Prometheus has them: of each bound, all that is not above it."""
        bounds = map(floatToGoString, (*self._bounds, float("inf")))
        return list(zip(bounds, accumulate(self.counts), strict=True))


CountsByLabels = defaultdict[tuple[object, ...], Counts]
"""The counts of each series, by the values of its labels."""


def counts_by_labels(bounds: Sequence[float]) -> CountsByLabels:
    """Begin without series; each is made when it is first looked up."""
    return defaultdict(partial(Counts, bounds))


def histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    series: Mapping[tuple[object, ...], Counts],
    application: str,
) -> HistogramMetricFamily:
    """Return the series for Prometheus; `labels` come behind that of the application."""
    family = HistogramMetricFamily(name, text, labels=("application", *labels))
    for values, counts in series.items():
        family.add_metric((application, *map(str, values)), counts.buckets(), counts.total)
    return family

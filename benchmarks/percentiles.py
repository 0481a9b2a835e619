"""What of many values is told."""

from collections.abc import Sequence
from statistics import quantiles

__all__ = ["percentiles"]


def percentiles(values: Sequence[float]) -> list[float]:
    """The 50th and the 99th percentile."""
    cuts = quantiles(values, n=100)
    return [cuts[49], cuts[98]]

"""Percentiles of many values."""

from collections.abc import Sequence
from statistics import quantiles

__all__ = ["curve", "percentiles"]


def curve(values: Sequence[float]) -> list[float]:
    """Return the 1st to the 99th percentile."""
    return quantiles(values, n=100)


def percentiles(values: Sequence[float]) -> list[float]:
    """Return the 50th and the 99th percentile."""
    cuts = curve(values)
    return [cuts[49], cuts[98]]

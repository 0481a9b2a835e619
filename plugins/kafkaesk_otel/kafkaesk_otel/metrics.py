"""The metrics of the semantic conventions, and the lag of consumers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .semconv import (
    BUCKETS,
    CONSUMED_MESSAGES,
    DESTINATION_NAME,
    ERROR_TYPE,
    GROUP_NAME,
    KAFKA,
    LAG,
    OPERATION_DURATION,
    PARTITION_ID,
    PROCESS_DURATION,
    SENT_MESSAGES,
    SYSTEM,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

    from kafkaesk_core import Status

__all__ = ["Labels", "Metrics"]

Labels = Mapping[str, str | int]


class Metrics:
    """The instruments; durations are in seconds and equal the spans' durations."""

    def __init__(self, meter: Meter) -> None:
        self._operations = meter.create_histogram(
            OPERATION_DURATION,
            unit="s",
            description="Duration of sending to the acknowledgement, and of commits.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._processes = meter.create_histogram(
            PROCESS_DURATION,
            unit="s",
            description="Duration of handling a message, or a batch.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._sent = meter.create_counter(
            SENT_MESSAGES,
            unit="{message}",
            description="Messages that were acknowledged, or failed to be.",
        )
        self._consumed = meter.create_counter(
            CONSUMED_MESSAGES,
            unit="{message}",
            description="Messages that were delivered to handlers.",
        )
        self._lag = meter.create_gauge(
            LAG,
            unit="{message}",
            description="Messages between what a group has committed and the end of a partition.",
        )

    def operated(
        self, seconds: float, labels: Labels, error: str | None, context: Context | None
    ) -> None:
        """Record the duration of a send or a commit."""
        self._operations.record(seconds, _with_error(labels, error), context)

    def sent(self, labels: Labels, error: str | None, context: Context | None) -> None:
        """Count a sent message, acknowledged or not."""
        self._sent.add(1, _with_error(labels, error), context)

    def delivered(self, count: int, labels: Labels, context: Context | None) -> None:
        """Count messages at their first attempt."""
        self._consumed.add(count, labels, context)

    def processed(
        self, seconds: float, labels: Labels, error: str | None, context: Context | None
    ) -> None:
        """Record the duration of the handling."""
        self._processes.record(seconds, _with_error(labels, error), context)

    def show_lag(self, status: Status) -> None:
        """Set the lag of every assigned partition, from a snapshot of the application."""
        for group in status.groups:
            for partition in group.partitions:
                if partition.lag is not None:
                    labels = {
                        SYSTEM: KAFKA,
                        GROUP_NAME: group.group,
                        DESTINATION_NAME: partition.topic,
                        PARTITION_ID: str(partition.partition),
                    }
                    self._lag.set(partition.lag, labels)


def _with_error(labels: Labels, error: str | None) -> Labels:
    return labels if error is None else {**labels, ERROR_TYPE: error}

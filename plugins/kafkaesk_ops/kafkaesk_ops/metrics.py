"""Prometheus metrics, read from `app.status()` at each scrape, without work per message."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector as BaseCollector

from kafkaesk_core import Application, GroupStatus, PartitionStatus, Status

__all__ = ["Collector"]

OUTCOMES = ("done", "skip", "retry", "stop", "deferred", "given_up")
"""The outcomes of a record, by the name in a group's counts."""
COMMITS = {"commits": "acknowledged", "failures": "failed", "postponed": "postponed"}
PUBLISHED = {"acked": "acknowledged", "failed": "failed", "unknown": "unknown"}
LABEL = ("application",)
REBALANCES = ("assigned", "revoked", "lost")

PARTITION_GAUGES = (
    ("lag", "kafkaesk_consumer_lag_records", "Records between the commit and the log's end."),
    ("committed", "kafkaesk_committed_offset", "The committed offset."),
    ("end", "kafkaesk_end_offset", "The end of the log as of the last fetch."),
    ("position", "kafkaesk_position_offset", "The next offset to fetch."),
    ("open", "kafkaesk_records_open", "Records that were taken and are not finished."),
    ("parked", "kafkaesk_records_parked", "Records that wait for a retry, and those behind them."),
    ("oldest_open_age", "kafkaesk_oldest_record_seconds", "Age of the oldest open record."),
)
GROUP_GAUGES = (
    ("running", "kafkaesk_records_running", "Handlers that run."),
    ("stuck", "kafkaesk_records_stuck", "Handlers that ignore their cancellation."),
    ("uncommitted", "kafkaesk_records_uncommitted", "Finished records above the commit."),
    ("buffered_bytes", "kafkaesk_buffered_bytes", "Memory of fetched records that wait."),
    ("is_joined", "kafkaesk_group_joined", "1 while the member is in its group."),
)


class Collector(BaseCollector):
    """The metrics of one or more applications, for one registry.

    The series of a partition exist while it is assigned. `watch` adds an application. If several
    applications share a registry, each has a name, which becomes the label `application`.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._apps: dict[str, Application] = {}
        self._measuring: dict[str, tuple[BaseCollector, ...]] = {}
        if registry is not None:
            registry.register(self)

    def watch(
        self, app: Application, name: str = "", measuring: Iterable[BaseCollector] = ()
    ) -> None:
        """Show an application under a name, and what its plugins measure besides.

        Raises:
            ValueError: another application has this name.
        """
        if self._apps.get(name, app) is not app:
            raise ValueError(f"two applications are named {name!r}; give each its own name")
        self._apps[name] = app
        self._measuring[name] = tuple(measuring)

    def forget(self, name: str = "") -> None:
        """Stop showing this application."""
        self._apps.pop(name, None)
        self._measuring.pop(name, None)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that the registration does not ask the applications."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, from one status and health of each application."""
        states = {name: (app.status(), app.health()) for name, app in self._apps.items()}
        build = GaugeMetricFamily("kafkaesk_build_info", "Versions.", labels=("version", "python"))
        build.add_metric((version("kafkaesk-core"), platform.python_version()), 1)
        up = GaugeMetricFamily("kafkaesk_up", "1 while live.", labels=("application",))
        ready = GaugeMetricFamily("kafkaesk_ready", "1 while ready.", labels=("application",))
        degraded = GaugeMetricFamily(
            "kafkaesk_degraded", "1 while degraded.", labels=("application",)
        )
        for name, (_, health) in states.items():
            up.add_metric((name,), health.is_live)
            ready.add_metric((name,), health.is_ready)
            degraded.add_metric((name,), health.is_degraded)
        yield from (build, up, ready, degraded)
        statuses = {name: status for name, (status, _) in states.items()}
        yield from _partitions(statuses)
        yield from _groups(statuses)
        yield from _published(statuses)
        yield from _reports(statuses)
        yield from _merged(each for several in self._measuring.values() for each in several)


def _each_group(statuses: dict[str, Status]) -> Iterator[tuple[str, GroupStatus]]:
    for name, status in statuses.items():
        yield from ((name, group) for group in status.groups)


def _partitions(statuses: dict[str, Status]) -> Iterator[Metric]:
    labels = ("application", "group", "topic", "partition")
    for attribute, metric, text in PARTITION_GAUGES:
        family = GaugeMetricFamily(metric, text, labels=labels)
        for name, group in _each_group(statuses):
            for partition in group.partitions:
                value = _value(partition, attribute)
                if value is not None:  # what is not known is not 0
                    place = (name, group.group, partition.topic, str(partition.partition))
                    family.add_metric(place, value)
        yield family


def _value(partition: PartitionStatus, attribute: str) -> float | None:
    value: float | None = getattr(partition, attribute)
    return value


def _groups(statuses: dict[str, Status]) -> Iterator[Metric]:
    for attribute, metric, text in GROUP_GAUGES:
        family = GaugeMetricFamily(metric, text, labels=("application", "group"))
        for name, group in _each_group(statuses):
            family.add_metric((name, group.group), float(getattr(group, attribute)))
        yield family
    group_labels = ("application", "group")
    records = CounterMetricFamily(
        *("kafkaesk_records", "Records by outcome."),
        labels=(*group_labels, "handler", "stream", "outcome"),
    )
    commits = CounterMetricFamily(
        "kafkaesk_commits", "Commits by outcome.", labels=(*group_labels, "outcome")
    )
    rebalances = CounterMetricFamily(
        "kafkaesk_rebalances", "Rebalances.", labels=(*group_labels, "kind")
    )
    for name, group in _each_group(statuses):
        counts = group.counts
        for each in group.subscriptions:
            place = (name, group.group, each.handler, ", ".join(each.streams))
            for outcome in OUTCOMES:
                records.add_metric((*place, outcome), each.results.get(outcome, 0))
        for count, outcome in COMMITS.items():
            commits.add_metric((name, group.group, outcome), counts.get(count, 0))
        for kind in REBALANCES:
            rebalances.add_metric((name, group.group, kind), counts.get(kind, 0))
    yield from (records, commits, rebalances)


def _reports(statuses: dict[str, Status]) -> Iterator[Metric]:
    """Yield the numbers in the plugins' reports, as `kafkaesk_<plugin>_<path>`."""
    families: dict[str, GaugeMetricFamily] = {}
    for name, status in statuses.items():
        for plugin, report in status.plugins.items():
            for path, value in _numbers(plugin, report):
                metric = f"kafkaesk_{re.sub(r'[^a-zA-Z0-9]+', '_', path)}"
                family = families.setdefault(
                    metric, GaugeMetricFamily(metric, f"{path}, of its report.", labels=LABEL)
                )
                family.add_metric((name,), value)
    yield from families.values()


def _numbers(path: str, value: object) -> Iterator[tuple[str, float]]:
    if isinstance(value, (bool, int, float)):
        yield path, float(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{path} {key}", inner)


def _merged(collectors: Iterable[BaseCollector]) -> Iterable[Metric]:
    """One family of each name: several applications have the same ones."""
    families: dict[str, Metric] = {}
    for collector in collectors:
        for metric in collector.collect():
            found = families.setdefault(metric.name, metric)
            if found is not metric:
                found.samples.extend(metric.samples)
    return families.values()


def _published(statuses: dict[str, Status]) -> Iterator[Metric]:
    labels = ("application", "outcome")
    messages = CounterMetricFamily("kafkaesk_published", "Published messages.", labels=labels)
    replaced = CounterMetricFamily(
        "kafkaesk_producers_replaced", "Producers that were replaced.", labels=("application",)
    )
    for name, status in statuses.items():
        counts = status.published
        if not counts:
            continue  # nothing was published yet
        for count, outcome in PUBLISHED.items():
            messages.add_metric((name, outcome), counts[count])
        replaced.add_metric((name,), counts["replaced"])
    yield from (messages, replaced)

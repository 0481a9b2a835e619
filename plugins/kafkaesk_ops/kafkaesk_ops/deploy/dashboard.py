"""The Grafana dashboard: lag, outcomes, running and waiting records, and problems."""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

__all__ = ["dashboard_of", "queries"]


class Panel(NamedTuple):
    """A panel: its title, its description, its queries with their legends, and its unit."""

    title: str
    text: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"


JOB = 'job=~"$job"'
PANELS = (
    Panel(
        "Live",
        "0: makes no progress, and is restarted.",
        ((f"min(kafkaesk_up{{{JOB}}})", "live"),),
        kind="stat",
    ),
    Panel(
        "Ready",
        "Instances that are ready.",
        ((f"sum(kafkaesk_ready{{{JOB}}})", "ready"),),
        kind="stat",
    ),
    Panel(
        "Degraded",
        "Instances with a problem; /ready says which.",
        ((f"sum(kafkaesk_degraded{{{JOB}}})", "degraded"),),
        kind="stat",
    ),
    Panel(
        "Lag",
        "All records between the commits and the ends.",
        ((f"sum(kafkaesk_consumer_lag_records{{{JOB}}})", "lag"),),
        kind="stat",
    ),
    Panel(
        "Lag by topic",
        "Records between the commit and the end of the log.",
        (
            (
                f"sum by (group, topic) (kafkaesk_consumer_lag_records{{{JOB}}})",
                "{{group}} {{topic}}",
            ),
        ),
    ),
    Panel(
        "Records per second",
        "The outcomes of records: done, retried, deferred, skipped.",
        (
            (
                f"sum by (group, outcome) (rate(kafkaesk_records_total{{{JOB}}}[5m]))",
                "{{group}} {{outcome}}",
            ),
        ),
        "ops",
    ),
    Panel(
        "Oldest record",
        "How long the oldest record has been handled, or has waited.",
        (
            (
                f"max by (group, topic) (kafkaesk_oldest_record_seconds{{{JOB}}})",
                "{{group}} {{topic}}",
            ),
        ),
        "s",
    ),
    Panel(
        "Running, waiting and stuck",
        "Handlers that run, records that wait for a retry, handlers that do not end.",
        (
            (f"sum by (group) (kafkaesk_records_running{{{JOB}}})", "{{group}} running"),
            (f"sum by (group) (kafkaesk_records_parked{{{JOB}}})", "{{group}} waiting"),
            (f"sum by (group) (kafkaesk_records_stuck{{{JOB}}})", "{{group}} stuck"),
        ),
    ),
    Panel(
        "Not committed",
        "Finished records above the commit: a crash repeats them.",
        ((f"sum by (group) (kafkaesk_records_uncommitted{{{JOB}}})", "{{group}}"),),
    ),
    Panel(
        "Commits per second",
        "By the broker's answer.",
        (
            (
                f"sum by (group, outcome) (rate(kafkaesk_commits_total{{{JOB}}}[5m]))",
                "{{group}} {{outcome}}",
            ),
        ),
        "ops",
    ),
    Panel(
        "Rebalances",
        "lost: the group removed a member before it handed over.",
        (
            (
                f"sum by (group, kind) (increase(kafkaesk_rebalances_total{{{JOB}}}[5m]))",
                "{{group}} {{kind}}",
            ),
        ),
    ),
    Panel(
        "Published per second",
        "By the outcome of the delivery.",
        ((f"sum by (outcome) (rate(kafkaesk_published_total{{{JOB}}}[5m]))", "{{outcome}}"),),
        "ops",
    ),
    Panel(
        "Memory of waiting records",
        "Fetched records that wait to be handled.",
        ((f"sum by (group) (kafkaesk_buffered_bytes{{{JOB}}})", "{{group}}"),),
        "bytes",
    ),
)
WIDTH, STATS_HEIGHT, HEIGHT = 24, 4, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def queries() -> list[str]:
    """Return all queries of the dashboard."""
    return [query for panel in PANELS for query, _ in panel.queries]


def dashboard_of(name: str) -> dict[str, Any]:
    """Return the dashboard for Grafana's import; it selects the data source and the jobs."""
    jobs = "label_values(kafkaesk_up, job)"
    return {
        "uid": "kafkaesk",
        "title": "kafkaesk",
        "tags": ["kafka", "kafkaesk"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "job",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": jobs, "refId": "jobs"},
                    "definition": jobs,
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "current": {"text": name, "value": name} if name else {},
                },
            ]
        },
        "panels": _panels(),
    }


def _panels() -> list[dict[str, Any]]:
    numbers = count(1)
    made, x, y = [], 0, 0
    for panel in PANELS:
        is_stat = panel.kind == "stat"
        width, height = (WIDTH // 4, STATS_HEIGHT) if is_stat else (WIDTH // 2, HEIGHT)
        if x + width > WIDTH:
            x, y = 0, y + (STATS_HEIGHT if y == 0 else HEIGHT)
        made.append(_panel(panel, next(numbers), {"x": x, "y": y, "w": width, "h": height}))
        x += width
    return made


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend,
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }

"""The alerting rules, each with advice on what to check."""

from __future__ import annotations

from typing import Any

from .service import Service

__all__ = ["rules_of"]

PATIENCE = 0.8
"""The part of `max_record_age` after which a record raises an alert, before the service fails."""


def rules_of(service: Service) -> dict[str, Any]:
    """Return Prometheus's groups of alerting rules for one service."""
    job = f'job=~"(.*/)?{service.name}"'
    rules = [*_of_health(job), *_of_records(job, service.max_record_age * PATIENCE)]
    return {"groups": [{"name": f"{service.name}-kafkaesk", "rules": rules}]}


def _of_health(job: str) -> list[dict[str, Any]]:
    return [
        _alert(
            "KafkaeskNotLive",
            f"kafkaesk_up{{{job}}} == 0",
            "2m",
            "critical",
            "{{ $labels.instance }} makes no progress; its /live says why, and it is restarted.",
        ),
        _alert(
            "KafkaeskNotReady",
            f"kafkaesk_ready{{{job}}} == 0",
            "10m",
            "warning",
            "{{ $labels.instance }} is not ready; its /ready says why: a broker that is away, or a "
            "group that cannot be joined.",
        ),
        _alert(
            "KafkaeskPartitionsLost",
            f'sum by (group) (increase(kafkaesk_rebalances_total{{{job},kind="lost"}}[15m])) > 0',
            "0m",
            "warning",
            "Group {{ $labels.group }} has removed a member before it handed over: its event loop "
            "was blocked, or the session is too short. Records are handled again.",
        ),
    ]


def _of_records(job: str, late: float) -> list[dict[str, Any]]:
    return [
        _alert(
            "KafkaeskLagGrows",
            f"sum by (group) (kafkaesk_consumer_lag_records{{{job}}}) > 1000 and "
            f"sum by (group) (deriv(kafkaesk_consumer_lag_records{{{job}}}[15m])) > 0",
            "15m",
            "warning",
            "Group {{ $labels.group }} is {{ $value }} records behind, and falls back: "
            "handlers are too slow, or too few members run.",
        ),
        _alert(
            "KafkaeskRecordTakesLong",
            "max by (group, topic, partition) "
            f"(kafkaesk_oldest_record_seconds{{{job}}}) > {late:g} "
            f"unless on (group, topic, partition) kafkaesk_records_parked{{{job}}} > 0",
            "1m",
            "warning",
            "A record of {{ $labels.topic }}[{{ $labels.partition }}] has been handled for "
            "{{ $value }} s in group {{ $labels.group }}; nothing behind it is committed.",
        ),
        _alert(
            "KafkaeskRecordsGivenUp",
            "sum by (group, handler, outcome) "
            f'(increase(kafkaesk_records_total{{{job},outcome=~"skip|stop"}}[15m])) > 0',
            "0m",
            "warning",
            "{{ $labels.handler }} has given up {{ $value }} records ({{ $labels.outcome }}); the "
            "log names them.",
        ),
    ]


def _alert(name: str, expression: str, duration: str, severity: str, text: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": duration,
        "labels": {"severity": severity},
        "annotations": {"summary": text},
    }

"""Prometheus, of Debian's package, scrapes a running service as in examples/observability.

Kafka's image and Grafana's cannot be tried here: they need Docker. The dashboard's queries are.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kafkaesk_core import Application
from kafkaesk_ops import OpsPlugin, OpsSettings
from kafkaesk_testing import eventually
from kafkaesk_tools.prometheus import Prometheus, alert_queries, find_panels

pytestmark = pytest.mark.skipif(
    not Prometheus.is_installed(), reason="prometheus is not installed: apt-get install prometheus"
)


async def test_prometheus_answers_every_query_of_the_dashboard_and_of_the_alerts(
    tmp_path: Path,
) -> None:
    ops, release = OpsPlugin(OpsSettings(port=0)), asyncio.Event()
    app = Application("embedded://", plugins=[ops], entry_points=False)

    @app.subscribe("orders", "billing")
    async def bill(data: bytes) -> None:
        await release.wait()  # a record that is handled now has an age

    queries = [query for panel in find_panels("orders") for query, _ in panel.queries]
    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.raw_publish("orders", b"one")
        with Prometheus([f"127.0.0.1:{ops.port}"], tmp_path) as prometheus:

            def answered() -> bool:
                return all(prometheus.query(query) for query in queries)

            await eventually(lambda: asyncio.to_thread(answered), within=30)
            alerts = alert_queries()
            firing = {name for name, query in alerts.items() if prometheus.query(query)}
            known = await asyncio.to_thread(prometheus.alerts)
            lag = prometheus.query("sum(kafkaesk_consumer_lag_records)")[0].values[0]
        release.set()
        await app.stop()
        await consuming

    assert firing == set()
    assert set(known) == set(alerts)
    assert set(known.values()) == {"inactive"}
    assert lag == 1


def test_an_expression_that_is_none_is_refused_with_the_reason(tmp_path: Path) -> None:
    with (
        Prometheus(["127.0.0.1:9"], tmp_path) as prometheus,
        pytest.raises(ValueError, match="parse error"),
    ):
        prometheus.query("sum(")

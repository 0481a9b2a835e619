"""`uv run dashboard`: draws the dashboard of a service with a temporarily slow dependency.

After a while a second member joins.

Grafana is not used: Prometheus answers the queries of the dashboard, and the answers are drawn at
the places of its panels.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import click
import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from pydantic import BaseModel

from kafkaesk_core import Application
from kafkaesk_ops import OpsPlugin, OpsSettings
from kafkaesk_testing import KafkaCluster
from kafkaesk_testing.properties import free_ports

from .prometheus import Panel, Prometheus, alert_queries, find_panels

__all__ = ["draw", "main"]

PICTURE = Path(__file__).parents[2] / "docs" / "guides" / "dashboard.png"
JOB = "orders"
_PHASES = ((40, 0.002), (40, 0.5), (50, 0.002))
"""The phases: seconds, and the seconds that a handler waits for its dependency."""
_PER_SECOND = 60
_STEP = 1.0
_PERIODS = (("[5m]", "[20s]"), ("[15m]", "[20s]"))
"""Query windows that are too long for a run of two minutes, with their replacements."""

_UNITS = {"s": "seconds", "ops": "per second", "short": ""}


class Order(BaseModel):
    """An order."""

    number: int


class Dependency:
    """The dependency that each handler waits for."""

    seconds = _PHASES[0][1]


@asynccontextmanager
async def member(
    servers: Sequence[str], port: int, dependency: Dependency
) -> AsyncIterator[Application]:
    """Run a member of the service, as a task, with its endpoint."""
    app = Application(
        list(servers),
        plugins=[OpsPlugin(OpsSettings(port=port))],
        entry_points=False,
        partitions=6,
        auto_commit_interval_ms=1000,
    )
    app.schema("Order", version=1, streams=["orders.placed"])(Order)

    @app.subscribe("orders.placed", "billing", ordering="key", concurrency=6)
    async def bill(order: Order) -> None:
        await asyncio.sleep(random.uniform(0.5, 1.5) * dependency.seconds)

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        try:
            yield app
        finally:
            await app.stop()
            await consuming


async def place_orders(app: Application) -> None:
    """Publish orders of a hundred customers until the task is cancelled."""
    number = 0
    while True:
        number += 1
        await app.publish("orders.placed", Order(number=number), b"%d" % random.randrange(100))
        await asyncio.sleep(1 / _PER_SECOND)


async def run(servers: Sequence[str], folder: Path) -> None:
    """Let the service go through its phases, and draw the data of Prometheus."""
    dependency, start, ports = Dependency(), time.time(), free_ports(2)
    targets = [f"127.0.0.1:{port}" for port in ports]
    with Prometheus(targets, folder) as prometheus:
        async with AsyncExitStack() as members:
            app = await members.enter_async_context(member(servers, ports[0], dependency))
            placing = asyncio.create_task(place_orders(app))
            for number, (seconds, waiting) in enumerate(_PHASES):
                dependency.seconds = waiting
                if number == 1:
                    await asyncio.sleep(seconds / 2)
                    await members.enter_async_context(member(servers, ports[1], dependency))
                    await asyncio.sleep(seconds / 2)
                else:
                    await asyncio.sleep(seconds)
            placing.cancel()
            panels = find_panels(JOB)
            await asyncio.to_thread(draw, prometheus, panels, start, time.time(), PICTURE)
            for name, query in alert_queries().items():
                prometheus.query(query)
                click.echo(f"alert {name}: {prometheus.alerts()[name]}")
    click.echo(f"drawn: {PICTURE.name}, {len(panels)} panels")


def draw(
    prometheus: Prometheus, panels: Sequence[Panel], start: float, end: float, path: Path
) -> None:
    """Draw each panel at its place in the dashboard.

    Raises:
        ValueError: a query is refused, or has no answer.
    """
    height = max(each.place["y"] + each.place["h"] for each in panels)
    figure = pyplot.figure(figsize=(14, 0.42 * height), layout="constrained")
    grid = figure.add_gridspec(height, 24)
    for panel in panels:
        x, y, w, h = (panel.place[name] for name in "xywh")
        axes = figure.add_subplot(grid[y : y + h, x : x + w])
        axes.set_title(panel.title, fontsize=10, loc="left")
        show = _show_number if panel.kind == "stat" else _show_curves
        show(axes, prometheus, panel, start, end)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _show_number(
    axes: Axes, prometheus: Prometheus, panel: Panel, start: float, end: float
) -> None:
    ((query, _),) = panel.queries
    (series,) = prometheus.query(query)
    axes.text(0.5, 0.5, f"{series.values[0]:g}", fontsize=26, ha="center", va="center")
    axes.set_axis_off()


def _show_curves(
    axes: Axes, prometheus: Prometheus, panel: Panel, start: float, end: float
) -> None:
    for query, legend in panel.queries:
        for long, short in _PERIODS:
            query = query.replace(long, short)
        found = prometheus.query_range(query, start, end, _STEP)
        if not found:
            raise ValueError(f"panel {panel.title!r}: {query} has no answer")
        for series in found:
            label = legend
            for name, value in series.labels.items():
                label = label.replace("{{" + name + "}}", value)
            axes.plot([at - start for at in series.times], series.values, label=label)
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel(_UNITS.get(panel.unit, panel.unit), fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")


def main() -> None:
    """Run the service for two minutes on Apache Kafka; write docs/guides/dashboard.png."""
    if not Prometheus.is_installed():
        sys.exit("prometheus is not installed: apt-get install prometheus")
    with KafkaCluster(1) as cluster, tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(cluster.servers, Path(folder)))


if __name__ == "__main__":
    main()

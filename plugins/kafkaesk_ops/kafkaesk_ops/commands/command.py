"""Declares the commands; the modules that do the work are imported when a command runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kafkaesk_core.command import cluster_options, complete_app, reported_errors

__all__ = ["deploy", "lag", "status"]


def _watching(func: Any) -> Any:  # click's decorators
    """Add the options of a command that can refresh its table."""
    options = (
        click.option("--watch", is_flag=True, help="Refresh the output until Ctrl-C."),
        click.option(
            "--interval",
            type=click.FloatRange(0.1),
            default=2.0,
            show_default=True,
            help="Seconds between refreshes, with --watch.",
        ),
        click.option(
            "--json", "as_json", is_flag=True, help="Print JSON; with --watch one object per line."
        ),
    )
    for option in reversed(options):
        func = option(func)
    return func


@click.command(short_help="Show how far consumer groups are behind.")
@click.argument("app", required=False, shell_complete=complete_app)
@click.option("--group", "groups", multiple=True, help="This group; may be repeated.")
@_watching
@cluster_options
def lag(app: str | None, groups: tuple[str, ...], **options: Any) -> None:
    """Show the lag of the groups of APP, or those named with --group, in each partition.

    The command asks the brokers, as Kafka's own kafka-consumer-groups.sh does; no service needs to
    run. LAG counts offsets from the committed one to the end. An unknown number is "-": nothing is
    committed, or the partition has no leader.
    """
    from .lag import show_lag

    if not app and not groups:
        raise click.UsageError("name an application, or a group with --group")
    with reported_errors():
        show_lag(app, groups, **options)


@click.command(short_help="Show what a running service does.")
@click.argument("target")
@_watching
def status(target: str, watch: bool, interval: float, as_json: bool) -> None:
    """Show the status of a running service: health, groups, partitions, handlers.

    TARGET is the address of its endpoint (KAFKAESK_OPS_PORT), as in localhost:8080 or
    http://shop:8080/ops, or an application whose plugin has a port; then the service is expected on
    this machine.

    The exit code is 1 if the service is not live.
    """
    from .status import show_status

    with reported_errors():
        show_status(target, watch=watch, interval=interval, as_json=as_json)


@click.group(short_help="Write the deployment files of a service.")
def deploy() -> None:
    """Write deployment files for a service, generated from its settings and checked with them.

    APP is module:attribute or an application's name. Without --out a single file is printed.
    """


def _writes(what: str, short: str) -> Callable[[Callable[..., None]], click.Command]:
    """Declare a command of `deploy`; its docstring is the help."""
    options = (
        click.argument("app", shell_complete=complete_app),
        click.option(
            "--out", type=click.Path(file_okay=False, path_type=Path), help="Write to this folder."
        ),
        click.option("--name", help="Name of the service.  [default: that of the module]"),
        click.option("--image", help="Name of the image.  [default: NAME:latest]"),
        click.option(
            "--port",
            type=click.IntRange(1, 65535),
            default=8080,
            show_default=True,
            help="Port of probes and metrics.",
        ),
        click.option(
            "--grace",
            type=click.IntRange(1),
            help="Seconds that a stop may take.  [default: shutdown_timeout + 5]",
        ),
    )

    def decorate(func: Callable[..., None]) -> click.Command:
        for option in reversed(options):
            func = option(func)
        return deploy.command(name=what, short_help=short)(func)

    return decorate


def _write(what: str, **options: Any) -> None:
    from .deploy import write

    with reported_errors():
        write(what, **options)


@_writes("k8s", "Deployment, monitoring, alerts and scaling for Kubernetes.")
def k8s(**options: Any) -> None:
    """Write a Deployment, a PodMonitor, a PrometheusRule and a KEDA ScaledObject.

    Secret options of aiokafka are read from the key "settings" of the secret NAME-kafka, a JSON
    object, if the secret exists.
    """
    _write("k8s", **options)


@_writes("dockerfile", "An image of the service.")
def dockerfile(**options: Any) -> None:
    """Write a Dockerfile with two stages, for an installable project."""
    _write("dockerfile", **options)


@_writes("compose", "The service with Kafka, Prometheus and Grafana.")
@click.option("--build", default=".", show_default=True, help="Folder to build the image from.")
@click.option("--dockerfile", help="Path of its Dockerfile, if it is not in that folder.")
def compose(**options: Any) -> None:
    """Write a compose file with Kafka, the service, Prometheus with alerts, and Grafana."""
    _write("compose", **options)


@_writes("grafana", "The dashboard.")
def grafana(**options: Any) -> None:
    """Write the dashboard, for the import in Grafana."""
    _write("grafana", **options)

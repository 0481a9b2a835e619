"""The commands as the command line declares them; their work is imported when they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kafkaesk_core.command import cluster_options, complete_app, reported_errors

__all__ = ["deploy", "lag", "status"]


def _watching(func: Any) -> Any:  # click's decorators
    """The options of a command that can show its table again and again."""
    options = (
        click.option("--watch", is_flag=True, help="Show it anew until Ctrl-C."),
        click.option(
            "--interval",
            type=click.FloatRange(0.1),
            default=2.0,
            show_default=True,
            help="Seconds between two looks, with --watch.",
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
    """Show how far the groups of APP, or those named with --group, are in each partition.

    Asks the brokers, as Kafka's own kafka-consumer-groups.sh does; no service needs to
    run. LAG counts offsets from the committed one to the end. A number that is not known
    is "-": nothing is committed, or the partition has no leader.
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
    http://shop:8080/ops, or an application whose plugin has a port: then the service is
    looked for on this machine.

    Exit code 1 if the service is not live.
    """
    from .status import show_status

    with reported_errors():
        show_status(target, watch=watch, interval=interval, as_json=as_json)


@click.group(short_help="Write the deployment files of a service.")
def deploy() -> None:
    """Write files to run a service with, made from its settings and checked against them.

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

    Options of aiokafka that are secret are read from the key "settings" of the secret
    NAME-kafka, as a JSON object, if there is one.
    """
    _write("k8s", **options)


@_writes("dockerfile", "An image of the service.")
def dockerfile(**options: Any) -> None:
    """Write a Dockerfile in two stages, for a project that can be installed."""
    _write("dockerfile", **options)


@_writes("compose", "The service with Kafka, Prometheus and Grafana.")
@click.option("--build", default=".", show_default=True, help="Folder that the image is built of.")
@click.option("--dockerfile", help="Path of its Dockerfile, if it is not in that folder.")
def compose(**options: Any) -> None:
    """Write a compose file with Kafka, the service, Prometheus with alerts, and Grafana."""
    _write("compose", **options)


@_writes("grafana", "The dashboard.")
def grafana(**options: Any) -> None:
    """Write the dashboard, to import in Grafana."""
    _write("grafana", **options)

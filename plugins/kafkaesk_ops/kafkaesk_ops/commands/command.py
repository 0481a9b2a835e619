"""The commands as the command line declares them; their work is imported when they are called."""

from __future__ import annotations

from typing import Any

import click

from kafkaesk_core.command import cluster_options, reported_errors

__all__ = ["lag", "status"]


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
            "--json", "as_json", is_flag=True, help="Print JSON; with --watch one object a line."
        ),
    )
    for option in reversed(options):
        func = option(func)
    return func


@click.command(short_help="Show how far consumer groups are behind.")
@click.argument("app", required=False)
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

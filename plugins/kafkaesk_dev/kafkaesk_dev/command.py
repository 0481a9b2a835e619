"""The commands as the command line declares them; their work is imported when they are called."""

from __future__ import annotations

from pathlib import Path

import click

from kafkaesk_core.command import reported_errors

__all__ = ["new"]


@click.command(short_help="Make a service: code, tests, image, CI.")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder to write to; it is made.  [default: NAME]",
)
@click.pass_context
def new(ctx: click.Context, name: str, out: Path | None) -> None:
    """Make the service NAME: an application with a handler, its messages and their frozen schemas.

    It has tests, a Dockerfile, a compose file with Kafka, and a workflow that checks format,
    lint, types, contracts and tests. Nothing that exists is changed.
    """
    from .project import make_project

    group = ctx.find_root().command
    commands = group.list_commands(ctx) if isinstance(group, click.Group) else []
    with reported_errors():
        make_project(name, out or Path(name), commands)

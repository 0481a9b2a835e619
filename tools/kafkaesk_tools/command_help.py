"""The help of `kafkaesk` and of all its commands, for a terminal of 80 columns."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from kafkaesk_core.cli import cli

__all__ = ["helps"]

WIDTH = 78
"""Click's formatting width in a terminal of 80 columns."""


def helps(command: click.Command, parent: click.Context | None, name: str) -> Iterator[list[str]]:
    """Yield each command with its help, in the order of the help: a group before its commands."""
    settings = {"terminal_width": WIDTH, **command.context_settings}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield [context.command_path, command.get_help(context).strip()]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from helps(found, context, child)


if __name__ == "__main__":
    print(json.dumps(list(helps(cli, None, "kafkaesk"))))  # noqa: T201 (read by another process)

"""The commands as the command line declares them; their work is imported when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kafkaesk_core.command import cluster_options, reported_errors

__all__ = ["new", "publish"]

Header = tuple[str, bytes | None]


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


def _header(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[Header]:
    headers: list[Header] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} is not a header; write name=value")
        headers.append((name, value.encode(errors="surrogateescape")))
    return headers


@click.command(short_help="Publish messages, checked against their schema.")
@click.argument("stream")
@click.argument("value", required=False, metavar="[JSON|-|@FILE]")
@click.option("--app", help="The application whose schemas hold: module:attribute or a name.")
@click.option("--schema", help="The message's schema, as in Order:1.  [default: the stream's]")
@click.option("--key", help="The record's key: records of a key stay in order.")
@click.option(
    "-H", "--header", "headers", multiple=True, callback=_header, help="A header: name=value."
)
@click.option("--partition", type=click.IntRange(0), help="Write to this partition.")
@click.option("--lines", "is_lines", is_flag=True, help="Each line of the input is a message.")
@click.option("--raw", "is_raw", is_flag=True, help="Publish the bytes as they are, unchecked.")
@click.option("--tombstone", "is_tombstone", is_flag=True, help="Publish no value, for a --key.")
@cluster_options
def publish(
    stream: str,
    value: str | None,
    schema: str | None,
    key: str | None,
    headers: list[Header],
    partition: int | None,
    **options: Any,  # the application, the kind of the input, and where Kafka is
) -> None:
    """Publish a message to STREAM: JSON, "-" for the standard input, or @FILE.

    The message is checked against the schema that the application gives the stream, and
    written as the service writes it: with the envelope, or in its codec. It may also be
    given with its envelope. Nothing of the service is started.
    """
    from .publish import Message, publish_messages

    if options["is_tombstone"] and (value is not None or key is None):
        raise click.UsageError("--tombstone needs a --key and takes no message")
    if options["is_lines"] and value is not None and value[:1] not in ("-", "@"):
        raise click.UsageError('--lines reads a file or the standard input; write @FILE or "-"')
    encoded = None if key is None else key.encode(errors="surrogateescape")
    message = Message(
        stream=stream, schema=schema, key=encoded, headers=tuple(headers), partition=partition
    )
    with reported_errors():
        publish_messages(message, value, **options)

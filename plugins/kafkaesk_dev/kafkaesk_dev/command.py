"""Declares the commands; the modules that do the work are imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kafkaesk_core.command import cluster_options, complete_app, reported_errors

if TYPE_CHECKING:
    from .reading.positions import Position

__all__ = ["completion", "dev", "inspect", "new", "publish", "tail"]

Header = tuple[str, bytes | None]


@click.command(short_help="Create a service: code, tests, image, CI.")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder to create and write to.  [default: NAME]",
)
@click.pass_context
def new(ctx: click.Context, name: str, out: Path | None) -> None:
    """Create the service NAME: an application with a handler, messages and their frozen schemas.

    The service has tests, a Dockerfile, a compose file with Kafka, and a workflow that checks
    format, lint, types, contracts and tests. No existing file is changed.
    """
    from .project import make_project

    group = ctx.find_root().command
    commands = group.list_commands(ctx) if isinstance(group, click.Group) else []
    with reported_errors():
        make_project(name, out or Path(name), commands)


def _complete_stream(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    from .completion import complete_stream

    return complete_stream(ctx.params, incomplete)


def _complete_schema(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    from .completion import complete_schema

    return complete_schema(ctx.params, incomplete)


def _header(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[Header]:
    headers: list[Header] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} is not a header; write name=value")
        headers.append((name, value.encode(errors="surrogateescape")))
    return headers


@click.command(short_help="Publish messages, checked against their schema.")
@click.argument("stream", shell_complete=_complete_stream)
@click.argument("value", required=False, metavar="[JSON|-|@FILE]")
@click.option(
    "--app",
    shell_complete=complete_app,
    help="The application with the schemas: module:attribute or a name.",
)
@click.option(
    "--schema",
    shell_complete=_complete_schema,
    help="The message's schema, as in Order:1.  [default: the stream's]",
)
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

    The message is checked against the stream's schema in the application, and written as the
    service would write it: in the envelope or by a codec. The input may also be a complete
    envelope. The service is not started.
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


def _position(_: click.Context, __: click.Parameter, text: str | None) -> Position | None:
    from .reading.positions import parse_position

    try:
        return None if text is None else parse_position(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _where(
    _: click.Context, __: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    conditions = []
    for text in texts:
        pointer, equals, value = text.partition("=")
        if not (equals and pointer.startswith("/")):
            raise click.BadParameter(f"{text!r} is not a condition; write /data/number=7")
        conditions.append((pointer, value))
    return tuple(conditions)


@click.command(short_help="Show the records of a stream, and follow new ones.")
@click.argument("stream", shell_complete=_complete_stream)
@click.option("-f", "--follow", "follows", is_flag=True, help="Follow new records until Ctrl-C.")
@click.option(
    "--from",
    "begin",
    callback=_position,
    help="Where to begin: -100 (the last 100), an offset, a time, an age as 2h, begin, end.  "
    "[default: -10]",
)
@click.option("--until", "end", callback=_position, help="Where to end: an offset, a time, an age.")
@click.option("-n", "last", type=click.IntRange(0), help="The last N records, as --from -N.")
@click.option("--limit", type=click.IntRange(1), help="End after this many records.")
@click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this partition."
)
@click.option("--key", help="Only records with this key.")
@click.option(
    "--schema",
    shell_complete=_complete_schema,
    help="Only records of this schema, as in Order or Order:1.",
)
@click.option(
    "-H", "--header", "headers", multiple=True, callback=_header, help="Only with name=value."
)
@click.option(
    "--where", multiple=True, callback=_where, help="Only records with a value: /data/number=7."
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON, one object per line.")
@click.option("--count", "is_count", is_flag=True, help="Print only the number of records.")
@click.option(
    "--app",
    shell_complete=complete_app,
    help="Use the settings and codecs of this application.",
)
@cluster_options
def tail(
    stream: str,
    begin: Position | None,
    last: int | None,
    end: Position | None,
    partitions: tuple[int, ...],
    limit: int | None,
    follows: bool,
    **options: Any,  # the filter, the output, the application, and where Kafka is
) -> None:
    """Show the records of STREAM, from all partitions in the order of their timestamps.

    The command joins no group and commits nothing. Values that are not JSON are shown as text or
    bytes.
    """
    from .reading.filters import Filter
    from .reading.positions import Position
    from .tail import Reading, show_records

    if begin is not None and last is not None:
        raise click.UsageError("-n and --from both say where to begin; give one of them")
    begin = begin or Position("last", 10 if last is None else last)
    if follows and end is not None:
        raise click.UsageError("--follow has no end; leave out --until, or end it with --limit")
    key = options.pop("key")
    wanted = Filter(
        key=None if key is None else key.encode(errors="surrogateescape"),
        schema=options.pop("schema"),
        headers=tuple(options.pop("headers")),
        where=options.pop("where"),
        since_ms=begin.number if begin.kind == "time" else None,
        before_ms=end.number if end is not None and end.kind == "time" else None,
    )
    reading = Reading(
        stream=stream,
        begin=begin,
        end=end,
        partitions=partitions,
        filter=wanted,
        limit=limit,
        follows=follows,
    )
    with reported_errors():
        show_records(reading, **options)


@click.command(short_help="Show an application, or how its handlers would take a record.")
@click.argument("app", shell_complete=complete_app)
@click.argument("record", required=False)
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@cluster_options
def inspect(app: str, record: str | None, is_json: bool, **options: Any) -> None:
    """Show the streams, handlers, schemas and plugins of APP; no broker is needed.

    With RECORD, as topic[partition]@offset or topic/partition/offset, show that record with its
    headers and value, and for each handler of APP the argument that it would get, or why it would
    fail. No handler is called.
    """
    from .inspection import show_application, show_record

    with reported_errors():
        if record is None:
            show_application(app, is_json=is_json)
        else:
            show_record(app, record, is_json=is_json, **options)


@click.command(short_help="Run an application, and restart it when a file changes.")
@click.argument("app", shell_complete=complete_app)
@click.option(
    "--watch",
    "watched",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file or folder to watch; may be repeated.  [default: this folder]",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    envvar="KAFKAESK_LOG_LEVEL",
    show_envvar=True,
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    help="Lowest level to log.",
)
@cluster_options
def dev(app: str, watched: tuple[Path, ...], log_level: str, **options: Any) -> None:
    """Run APP on a broker inside this process until Ctrl-C, and restart it when a file changes.

    Topics and offsets survive a restart of the service. If the service fails or cannot be imported,
    its error is shown, and the next change restarts it. With --kafka-servers the service runs on a
    real cluster.
    """
    from .watching import develop

    with reported_errors():
        develop(app, watched, log_level, options)


@click.command(short_help="Print the code for shell completion.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the code that lets SHELL complete commands, options, applications and streams.

    \b
    bash  add to ~/.bashrc:  eval "$(kafkaesk completion bash)"
    zsh   add to ~/.zshrc:   eval "$(kafkaesk completion zsh)"
    fish  kafkaesk completion fish > ~/.config/fish/completions/kafkaesk.fish
    """  # noqa: D301 (click wants the character)
    from .completion import completion_source

    click.echo(completion_source(shell, ctx.find_root().command))

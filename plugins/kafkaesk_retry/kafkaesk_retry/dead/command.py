"""The command `kafkaesk dead`; the module that does the work is imported when it runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from kafkaesk_core.command import cluster_options, complete_app, reported_errors

__all__ = ["dead"]

F = TypeVar("F", bound=Callable[..., Any])
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


# Any: what click passes.
def _since(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Convert an age ("2h") or a time ("2026-01-31T12:00+01:00") to milliseconds since 1970."""
    import time
    from datetime import datetime

    if text is None:
        return None
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return int((time.time() - float(found[1]) * UNITS[found[2]]) * 1000)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither an age, as 90s, 30m, 2h or 7d, nor a time, as 2026-01-31T12:00"
        ) from None


def _where(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    pointer, equals, value = text.partition("=")
    if not (equals and pointer.startswith("/")):
        raise click.BadParameter(f"{text!r} is no condition; write /data/number=7")
    return pointer, value


_APPLICATION = (
    click.argument("app", shell_complete=complete_app),
    cluster_options,
    click.option(
        "--dead-prefix",
        default="dlq.",
        show_default=True,
        envvar="KAFKAESK_RETRY_PREFIX",
        show_envvar=True,
        help="Prefix of the streams of dead letters.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON for machines."),
)
_SELECTION = (
    click.option("--group", help="Only letters of this consumer group."),
    click.option("--stream", help="Only letters of records from this stream."),
    click.option(
        "--since", callback=_since, help="Only failures since then: 30m, 2h, 7d, or a time."
    ),
    click.option("--fingerprint", help="Only this kind of failure, as `ls` shows it."),
    click.option(
        "--where",
        callback=_where,
        help="Only letters with a value at a JSON pointer: /data/number=7.",
    ),
    click.option("--id", "ids", multiple=True, help="Only this letter: topic/partition/offset."),
)
_ACTING = (
    click.option("--limit", type=click.IntRange(1), help="At most this many letters."),
    click.option("--dry-run", is_flag=True, help="Print the plan, and do nothing."),
    click.option("--yes", is_flag=True, help="Do not ask."),
)


def _options(*declared: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(func: F) -> F:
        for option in reversed(declared):
            func = option(func)
        return func

    return decorate


def _run(what: str, **options: Any) -> None:
    """Do the work; report errors in one line, with their exit code."""
    from . import work

    try:
        with reported_errors():
            code = work.run(what, **options)
    except KeyboardInterrupt:
        click.echo("kafkaesk: interrupted; run the same command again to continue", err=True)
        sys.exit(130)
    if code:
        sys.exit(code)


@click.group(short_help="List, show, replay, drop and export dead letters.")
def dead() -> None:
    """Manage dead letters: records that failed for good, in the streams dlq.<group>.<stream>.

    APP is module:attribute or an application's name; its settings locate Kafka.
    """


@dead.command(name="ls", short_help="List dead letters by kind of failure.")
@_options(*_APPLICATION, *_SELECTION)
@click.option(
    "--all", "with_settled", is_flag=True, help="Also letters that were replayed or dropped."
)
def ls(**options: Any) -> None:
    """List dead letters by group, stream and kind of failure, the most frequent first."""
    _run("ls", **options)


@dead.command(short_help="Show a dead letter: error, traceback, headers, value.")
@_options(*_APPLICATION)
@click.argument("letter")
@click.option(
    "--no-values", is_flag=True, help="Leave out the key, the value and the headers' values."
)
def show(letter: str, **options: Any) -> None:
    """Show the dead letter LETTER, given as topic/partition/offset, as in `ls` and `export`."""
    _run("show", ids=(letter,), **options)


@dead.command(short_help="Let the group of dead letters handle them again.")
@_options(*_APPLICATION, *_SELECTION, *_ACTING)
@click.option(
    "--to-origin", is_flag=True, help="Send to the stream of their origin, so to all its groups."
)
@click.option(
    "--local", is_flag=True, help="Handle the letters in this process; send and settle nothing."
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="At most this many letters per second."
)
@click.option(
    "--max-replays",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Leave letters that were replayed this often.",
)
def replay(**options: Any) -> None:
    """Send dead letters to retry.<group>.0, so that only the group that failed gets them again.

    Letters that arrive after the command has begun are left alone. If it is interrupted, call it
    again: no letter is sent twice. Do not run it twice at the same time for a group.

    With --local the handlers of APP are called in this process, one letter after the other, to test
    whether they fail. The application is not started: its `initialize` handlers do not run, and a
    handler that publishes fails. The exit code is 1 if any handler fails.
    """
    _run("replay", **options)


@dead.command(short_help="Settle dead letters without a replay.")
@_options(*_APPLICATION, *_SELECTION, *_ACTING)
def drop(**options: Any) -> None:
    """Mark dead letters as settled: `ls` and `replay` ignore them, and retention deletes them."""
    _run("drop", **options)


@dead.command(short_help="Write dead letters as JSON lines.")
@_options(*_APPLICATION, *_SELECTION)
@click.option(
    "--all", "with_settled", is_flag=True, help="Also letters that were replayed or dropped."
)
def export(**options: Any) -> None:
    """Write dead letters to standard output, one JSON object per line, with bytes as base64."""
    _run("export", **options)

"""The command `kafkaesk logs`: reads the log lines of a stream.

`kafkaesk --help` imports this module for its first line, so this module imports little.
"""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import click

from kafkaesk_core.command import (
    cluster_options,
    cluster_settings,
    complete_app,
    reported_errors,
)

if TYPE_CHECKING:
    from kafkaesk_core import Settings

    from .text import LinePrinter

__all__ = ["logs"]


def _level(_: click.Context, __: click.Parameter, text: str) -> int:
    known = logging.getLevelNamesMapping()
    if text.isdigit():
        return int(text)
    if text.upper() not in known:
        raise click.BadParameter(f"{text!r} is not one of {', '.join(known).lower()}, or a number")
    return known[text.upper()]


def _pattern(_: click.Context, __: click.Parameter, text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is not a valid regular expression: {error}") from error


@click.command(short_help="Read the log lines of a stream.")
@click.argument("stream")
@click.option("-f", "--follow", is_flag=True, help="Keep reading new lines until Ctrl-C.")
@click.option(
    "--level",
    default="0",
    callback=_level,
    help="Show only lines of this level or above: a name or a number.",
)
@click.option(
    "--grep", callback=_pattern, help="Show only lines that match this regular expression."
)
@click.option("--json", "as_json", is_flag=True, help="Print all fields, as JSON lines.")
@click.option(
    "--app",
    shell_complete=complete_app,
    help="Use the settings of this application: module:attribute or a name.",
)
@cluster_options
def logs(
    stream: str,
    follow: bool,
    level: int,
    grep: re.Pattern[str] | None,
    as_json: bool,
    app: str | None,
    **options: Any,  # of `cluster_options`
) -> None:
    """Read the log lines of STREAM from beginning to end, and new ones with --follow.

    The command joins no consumer group and commits nothing. Lines of several partitions are sorted
    by time. Records that are not log lines are reported on standard error.
    """
    import asyncio

    from kafkaesk_core.plugin import find_application

    from .text import LinePrinter

    output = sys.stdout
    if isinstance(output, io.TextIOWrapper):
        output.reconfigure(errors="backslashreplace")  # for a terminal without Unicode
    printer = LinePrinter(
        output,
        _report,
        level=level,
        pattern=grep,
        as_json=as_json,
        is_coloured=output.isatty() and not os.environ.get("NO_COLOR"),
    )
    with reported_errors():
        settings = cluster_settings(find_application(app) if app else None, options)
        asyncio.run(_print(settings, stream, printer, follow))


async def _print(settings: Settings, stream: str, printer: LinePrinter, follow: bool) -> None:
    import asyncio

    from .reader import StreamReader

    task = asyncio.current_task()
    if follow and task is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    reader = StreamReader(settings, stream, _report)
    with suppress(asyncio.CancelledError):
        async with aclosing(reader.records(follow=follow)) as batches:
            async for records in batches:
                for record in records:
                    printer.show(record)
                printer.flush()
    printer.finish()


def _report(text: str) -> None:
    click.echo(f"kafkaesk: {text}", err=True)

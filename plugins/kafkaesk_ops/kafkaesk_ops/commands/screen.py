"""Shows a command's results: as a table or JSON, once or repeatedly."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

__all__ = ["number", "plain", "show", "table", "under"]

Found = TypeVar("Found")
UNKNOWN = "-"


def number(value: float | None) -> str:
    """Return a number for people; "-" if it is unknown, never 0."""
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def table(*columns: str, numbers: Collection[str] = ()) -> Table:
    """Return a table; the columns in `numbers` are right-aligned."""
    made = Table(box=None, pad_edge=False)
    for column in columns:
        is_number = column in numbers
        made.add_column(column, justify="right" if is_number else "left", overflow="fold")
    return made


def under(mark: str, text: RenderableType) -> RenderableType:
    """Return a text for below a line: one row per line of the text, each behind a mark."""
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column(width=1)
    made.add_column(overflow="fold")
    made.add_row(mark, text)
    return Padding(made, (0, 0, 0, 2 if mark else 0), expand=False)


async def show(
    look: Callable[[], Awaitable[Found]],
    render: Callable[[Found], RenderableType],
    as_json: Callable[[Found], Any] | None,  # any JSON
    *,
    watch: bool,
    interval: float,
) -> Found:
    """Read and show a result once, or until Ctrl-C; return the last result."""
    found = await look()
    if not watch:
        if as_json is None:
            Console(highlight=False).print(render(found))
        else:
            click.echo(json.dumps(as_json(found), indent=2))
        return found
    stopped = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            if as_json is None:
                live.update(render(found), refresh=True)
            else:
                click.echo(json.dumps(as_json(found)))
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), interval)
            if stopped.is_set():
                return found
            found = await look()


plain = escape
"""Escapes a foreign text, so that rich reads no markup in it."""

"""The tables of `kafkaesk plugins`: of the plugins, and of what their hooks cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .plugins.contract import PluginInfo

if TYPE_CHECKING:
    from .plugin_price import Price

__all__ = ["plugin_table", "price_table"]

INDENT = "    "


def plugin_table(found: Sequence[PluginInfo], width: int | None = None) -> Iterator[str]:
    """Yield one line per plugin; or a paragraph for each if a line has more than `width` columns.

    `width` is that of a terminal, and None for output that programs read.
    """
    if not found:
        yield "no plugins are installed"
        return
    rows = [("NAME", "VERSION", "FROM", "STATUS", "HOOKS", "")]
    for info in found:
        cells = (info.name, info.version, _origin(info), info.status)
        rows.append((*cells, ", ".join(info.hooks) or "-", _reason(info)))
    lines = list(_align(rows))
    if width is None or max(map(len, lines)) <= width:
        yield from lines
        return
    for info in found:
        yield from _paragraph(info, width)


def price_table(prices: Sequence[Price]) -> Iterator[str]:
    """Yield one line per hook that was timed."""
    rows = [("HOOK", "PLUGIN", "MICROSECONDS PER CALL")]
    for price in prices:
        cost = f"not priced: {price.problem}" if price.problem else f"{price.microseconds:.2f}"
        rows.append((price.hook, price.plugin, cost))
    yield from _align(rows) if len(rows) > 1 else ["no plugin acts on messages"]


def _origin(info: PluginInfo) -> str:
    return f"{info.source} ({info.value})" if info.value else info.source


def _reason(info: PluginInfo) -> str:
    return " ".join(info.reason.split())  # an error may have several lines


def _paragraph(info: PluginInfo, width: int) -> Iterator[str]:
    yield " ".join(filter(None, (info.name, info.version, info.status)))
    for text in (_origin(info), ", ".join(info.hooks), _reason(info)):
        yield from textwrap.wrap(
            text,
            width,
            initial_indent=INDENT,
            subsequent_indent=INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align rows in columns; each column is as wide as its widest entry."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()

"""Implements `kafkaesk status`: asks the endpoint of a running service, and shows the answer."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Group, RenderableType

from kafkaesk_core import BrokerUnreachableError, ConfigurationError
from kafkaesk_core.command import find_described
from kafkaesk_ops.plugin import OpsPlugin

from .screen import number, plain, show, table, under

__all__ = ["show_status"]

TIMEOUT = 5.0
_ADDRESS = re.compile(r"[^:/]+:\d+(/.*)?|\d+")
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


class Seen(NamedTuple):
    """The endpoint's answers: the body of the probe, and the status."""

    health: dict[str, Any]
    status: dict[str, Any]


def show_status(target: str, *, watch: bool, interval: float, as_json: bool) -> None:
    """Show the status of a running service; exit with 1 if it is not live.

    Raises:
        ConfigurationError: the application's plugin has no port, or the address is not an endpoint.
        BrokerUnreachableError: nothing answers at the address.
    """
    address = _address(target)

    async def look() -> Seen:
        return await asyncio.to_thread(_ask, address)

    def render(seen: Seen) -> RenderableType:
        return Group(*_parts(address, seen))

    shown = show(look, render, Seen._asdict if as_json else None, watch=watch, interval=interval)
    seen = asyncio.run(shown)
    if not seen.health["live"]:
        sys.exit(1)


def _address(target: str) -> str:
    if "://" in target:
        return target.rstrip("/")
    if _ADDRESS.fullmatch(target):
        return f"http://{target if ':' in target else f'127.0.0.1:{target}'}".rstrip("/")
    application = find_described(target)
    ops = application.plugins.get("ops")
    settings = ops.settings if isinstance(ops, OpsPlugin) else None
    if settings is None or not settings.port:
        raise ConfigurationError(
            f"{target} has no fixed port to ask; set KAFKAESK_OPS_PORT as the service does, "
            "or give the address, as in localhost:8080"
        )
    return f"http://{_ANY_ADDRESS.get(settings.host, settings.host)}:{settings.port}"


def _ask(address: str) -> Seen:
    return Seen(_get(f"{address}/live"), _get(f"{address}/status"))


def _get(url: str) -> dict[str, Any]:
    try:
        try:
            with urlopen(Request(url), timeout=TIMEOUT) as response:
                body = response.read()
        except HTTPError as error:
            body = error.read()  # a probe that fails says why
        found = json.loads(body)
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise BrokerUnreachableError(
            f"{url} does not answer: {reason}; check the address, and that the service has "
            "KAFKAESK_OPS_PORT"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{url} is not an endpoint of kafkaesk-ops: it sends no JSON"
        ) from error
    if not (isinstance(found, dict) and ("state" in found)):
        raise ConfigurationError(
            f"{url} is not an endpoint of kafkaesk-ops: it says {json.dumps(found)[:100]}"
        )
    return found


# --- how it looks


def _parts(address: str, seen: Seen) -> Iterator[RenderableType]:
    health, status = seen
    live = "[green]live[/green]" if health["live"] else "[bold red]not live[/bold red]"
    ready = "[green]ready[/green]" if health["ready"] else "[yellow]not ready[/yellow]"
    yield f"[bold]{plain(address)}[/bold]: {plain(health['state'])}, {live}, {ready}"
    for reason in health["reasons"]:
        yield under("[yellow]![/yellow]", plain(reason))
    published = status["published"]
    if published:
        yield f"published: {_counts(published, 'acked')}"
    for group in status["groups"]:
        yield ""
        yield from _group(group)
    for plugin, report in status["plugins"].items():
        yield ""
        yield from _report(plugin, report)


def _counts(counts: Mapping[str, int], always: str) -> str:
    """Return the counts that are not 0, and one that is always shown."""
    shown = ((name, count) for name, count in counts.items() if count or name == always)
    return ", ".join(f"{number(count)} {name}" for name, count in shown)


def _group(group: Mapping[str, Any]) -> Iterator[RenderableType]:
    joined = "joined" if group["is_joined"] else "[yellow]not joined[/yellow]"
    yield (
        f"[bold]{plain(group['group'])}[/bold]: {joined}, {number(group['running'])} running, "
        f"{number(group['uncommitted'])} not committed, "
        f"{number(group['buffered_bytes'])} bytes buffered"
        + (f", [bold red]{group['stuck']} stuck[/bold red]" if group["stuck"] else "")
    )
    for paused in group["paused"]:
        yield under("[yellow]![/yellow]", f"paused: {plain(paused)}")
    for each in group["subscriptions"]:
        yield from _handler(each)
    by_topic = groupby(group["partitions"], key=itemgetter("topic"))
    for topic, partitions in by_topic:
        yield f"[bold]{plain(topic)}[/bold]"
        yield _partitions(list(partitions))


def _handler(each: Mapping[str, Any]) -> Iterator[RenderableType]:
    named = {"done": "done", "retry": "retried", "skip": "skipped", "deferred": "deferred"}
    counts = {text: each["results"].get(kind, 0) for kind, text in named.items()}
    counts |= {"running": each["running"], "parked": each["parked"]}
    streams = ", ".join(each["streams"])
    head = f"[bold]{plain(each['handler'])}[/bold] takes {plain(streams)}"
    yield under("", f"{head}: {_counts(counts, 'done')}")
    if (error := each["last_error"]) is not None:
        place = f"{error['topic']}[{error['partition']}]@{error['offset']}"
        ago = f"{time.time() - error['at']:,.0f} s ago"
        text = f"last error {ago}, {plain(place)}: {plain(error['error'][:300])}"
        yield under("", under("[red]![/red]", text))


def _partitions(partitions: list[dict[str, Any]]) -> RenderableType:
    numbers = ("PARTITION", "POSITION", "COMMITTED", "END", "LAG", "OPEN", "PARKED", "OLDEST")
    has_paused = any(each["is_paused"] for each in partitions)
    drawn = table(*numbers, *([""] if has_paused else []), numbers=numbers)
    names = ("position", "committed", "end", "lag", "open", "parked", "oldest_open_age")
    for each in partitions:
        cells = [number(each[name]) for name in names]
        drawn.add_row(str(each["partition"]), *cells, "paused" if each["is_paused"] else None)
    return drawn


def _report(name: str, report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield a plugin's report, one line for each part."""
    facts = [f"{key} {_text(value)}" for key, value in report.items() if not _is_part(value)]
    yield f"[bold]{plain(name)}[/bold]: {plain(', '.join(facts) or '-')}"
    for key, part in report.items():
        if _is_part(part):
            texts = (f"{inner} {_text(value)}" for inner, value in part.items())
            yield under("", plain(f"{key}: {', '.join(texts) or '-'}"))


def _is_part(value: Any) -> bool:
    return isinstance(value, Mapping)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or "unknown"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number(value) if is_number else json.dumps(value)

"""What `kafkaesk status` does: asks the endpoint of a running service, and shows what it says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Group, RenderableType

from kafkaesk_core import BrokerUnreachableError, ConfigurationError
from kafkaesk_core.command import find_described
from kafkaesk_ops.plugin import OpsPlugin

from .screen import number, plain, show, table

__all__ = ["show_status"]

TIMEOUT = 5.0
_ADDRESS = re.compile(r"[^:/]+:\d+(/.*)?|\d+")
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


class Seen(NamedTuple):
    """What the endpoint said: the body of the probe, and the status."""

    health: dict[str, Any]
    status: dict[str, Any]


def show_status(target: str, *, watch: bool, interval: float, as_json: bool) -> None:
    """Show the status of a running service; exit with 1 if it is not live.

    Raises:
        ConfigurationError: the application's plugin has no port, or the address is no endpoint.
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


# --- the tables


def _parts(address: str, seen: Seen) -> Iterator[RenderableType]:
    health, status = seen
    live = "[green]live[/green]" if health["live"] else "[bold red]not live[/bold red]"
    ready = "[green]ready[/green]" if health["ready"] else "[yellow]not ready[/yellow]"
    yield f"[bold]{plain(address)}[/bold]: {plain(health['state'])}, {live}, {ready}"
    for reason in health["reasons"]:
        yield f"  [yellow]![/yellow] {plain(reason)}"
    published = status["published"]
    if published:
        counts = ", ".join(f"{number(count)} {name}" for name, count in published.items())
        yield f"published: {counts}"
    for group in status["groups"]:
        yield ""
        yield from _group(group)
    for plugin, report in status["plugins"].items():
        yield ""
        yield f"[bold]{plain(plugin)}[/bold]: {plain(_line(report))}"


def _group(group: Mapping[str, Any]) -> Iterator[RenderableType]:
    joined = "joined" if group["is_joined"] else "[yellow]not joined[/yellow]"
    yield (
        f"[bold]{plain(group['group'])}[/bold]: {joined}, {number(group['running'])} running, "
        f"{number(group['uncommitted'])} not committed, "
        f"{number(group['buffered_bytes'])} bytes buffered"
        + (f", [bold red]{group['stuck']} stuck[/bold red]" if group["stuck"] else "")
    )
    for paused in group["paused"]:
        yield f"  [yellow]paused[/yellow]: {plain(paused)}"
    if group["subscriptions"]:
        yield _handlers(group["subscriptions"])
    if group["partitions"]:
        yield _partitions(group["partitions"])


def _handlers(subscriptions: list[dict[str, Any]]) -> RenderableType:
    numbers = ("DONE", "RETRIES", "SKIPPED", "RUNNING", "PARKED")
    drawn = table("HANDLER", "STREAMS", *numbers, "LAST ERROR", numbers=numbers)
    for each in subscriptions:
        results = each["results"]
        counts = [results.get(kind, 0) for kind in ("done", "retry", "skip")]
        drawn.add_row(
            plain(each["handler"]),
            plain(", ".join(each["streams"])),
            *map(number, (*counts, each["running"], each["parked"])),
            plain(_error(each["last_error"])),
        )
    return drawn


def _error(error: Mapping[str, Any] | None) -> str:
    if error is None:
        return "-"
    place = f"{error['topic']}[{error['partition']}]@{error['offset']}"
    return f"{error['error'][:100]} ({place}, {time.time() - error['at']:,.0f} s ago)"


def _partitions(partitions: list[dict[str, Any]]) -> RenderableType:
    numbers = ("PARTITION", "POSITION", "COMMITTED", "END", "LAG", "OPEN", "PARKED", "OLDEST")
    drawn = table("TOPIC", *numbers, "", numbers=numbers)
    names = ("position", "committed", "end", "lag", "open", "parked", "oldest_open_age")
    for each in partitions:
        cells = [number(each[name]) for name in names]
        paused = "paused" if each["is_paused"] else ""
        drawn.add_row(plain(each["topic"]), str(each["partition"]), *cells, paused)
    return drawn


def _line(report: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in report.items()) or "-"


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    return number(value) if isinstance(value, (int, float)) else json.dumps(value)

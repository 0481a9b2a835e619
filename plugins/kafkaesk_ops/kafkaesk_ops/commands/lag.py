"""Implements `kafkaesk lag`: asks the brokers about groups, and shows their lag."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from operator import attrgetter
from typing import Any

from rich.console import Group, RenderableType

from kafkaesk_core import Application, Cluster, ClusterGroup, ConfigurationError, PartitionLag
from kafkaesk_core.command import cluster_settings, find_described

from .screen import number, plain, show, table

__all__ = ["show_lag"]

Speeds = Mapping[tuple[str, int], float]
"""Offsets per second, by topic and partition."""


@dataclass(frozen=True, slots=True)
class GroupLag:
    """A group and its partitions, with the time of the request."""

    group: ClusterGroup
    partitions: tuple[PartitionLag, ...]
    at: float

    @property
    def lag(self) -> int | None:
        """The sum of the known lags; None if none is known."""
        known = [one.lag for one in self.partitions if one.lag is not None]
        return sum(known) if known else None

    @property
    def unknown(self) -> int:
        """The number of partitions with an unknown lag."""
        return sum(one.lag is None for one in self.partitions)

    def as_json(self) -> dict[str, Any]:
        """Return the group as JSON; null stands for unknown values."""
        return {
            "group": self.group.name,
            "state": self.group.state if self.group.exists else None,
            "members": len(self.group.members),
            "lag": self.lag,
            "unknown": self.unknown,
            "partitions": [
                {
                    "topic": one.topic,
                    "partition": one.partition,
                    "committed": one.committed,
                    "end": one.end,
                    "lag": one.lag,
                    "client": one.member.client_id if one.member else None,
                    "host": one.member.host if one.member else None,
                }
                for one in self.partitions
            ],
        }


def show_lag(
    app: str | None,
    groups: tuple[str, ...],
    *,
    watch: bool,
    interval: float,
    as_json: bool,
    **options: Any,  # of the command: where Kafka is
) -> None:
    """Show the lag of an application's groups, or of the given groups.

    Raises:
        ConfigurationError: the application has no groups, or a named group is unknown.
        BrokerError: no broker can be reached.
    """
    application = find_described(app) if app else None
    names = groups or _groups_of(application)
    settings = cluster_settings(application, options)

    async def ask() -> None:
        async with Cluster(settings) as cluster:
            watcher = _Watcher(cluster, names)
            if groups:
                await watcher.check()
            await show(
                watcher.look,
                watcher.render,
                _as_json if as_json else None,
                watch=watch,
                interval=interval,
            )

    asyncio.run(ask())


def _groups_of(application: Application | None) -> tuple[str, ...]:
    subscriptions = application.subscriptions if application else ()
    names = tuple(dict.fromkeys(subscription.group for subscription in subscriptions))
    if not names:
        raise ConfigurationError(
            "the application subscribes to nothing, so it has no group; name one with --group"
        )
    return names


def _as_json(found: Sequence[GroupLag]) -> dict[str, Any]:
    return {"groups": [each.as_json() for each in found]}


class _Watcher:
    """Reads the state of groups, and keeps the first state: the speed is the difference."""

    def __init__(self, cluster: Cluster, names: Sequence[str]) -> None:
        self._cluster = cluster
        self._names = names
        self._first: dict[str, GroupLag] = {}

    async def check(self) -> None:
        """Refuse unknown groups.

        Raises:
            ConfigurationError: a group has neither a member nor a committed offset.
        """
        known = await self._cluster.groups()
        for name in self._names:
            if name in known:
                continue
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`kafkaesk lag APP` shows an app's"
            raise ConfigurationError(
                f"group {name!r} has neither members nor committed offsets at "
                f"{', '.join(self._cluster.servers)}; {hint}"
            )

    async def look(self) -> list[GroupLag]:
        """Read the state of all groups."""
        found = []
        for name in self._names:
            group = await self._cluster.group(name)
            found.append(GroupLag(group, await self._cluster.lag(name), time.monotonic()))
        self._first = self._first or {each.group.name: each for each in found}
        return found

    def render(self, found: Sequence[GroupLag]) -> RenderableType:
        """Return the tables, one for each group."""
        return Group(*(part for each in found for part in self._table(each)))

    def _table(self, found: GroupLag) -> list[RenderableType]:
        group, first = found.group, self._first[found.group.name]
        head = f"[bold]{plain(group.name)}[/bold]: {_state(found)}"
        parts: list[RenderableType] = [head]
        speeds = None if found is first else _speeds(first, found)
        for topic, partitions in groupby(found.partitions, key=attrgetter("topic")):
            parts += [f"[bold]{plain(topic)}[/bold]", _of_topic(partitions, speeds)]
        return [*parts, ""]


def _of_topic(partitions: Iterable[PartitionLag], speeds: Speeds | None) -> RenderableType:
    numbers = ["PARTITION", "COMMITTED", "END", "LAG"]
    numbers += [] if speeds is None else ["PER SECOND"]
    drawn = table(*numbers, "CLIENT", "HOST", numbers=numbers)
    for one in partitions:
        cells = [str(one.partition), *map(number, (one.committed, one.end, one.lag))]
        cells += [] if speeds is None else [number(speeds.get((one.topic, one.partition)))]
        client, host = (one.member.client_id, one.member.host) if one.member else ("-", "-")
        drawn.add_row(*cells, plain(client), host)
    return drawn


def _state(found: GroupLag) -> str:
    group = found.group
    if not found.partitions and not group.members:
        return "nothing is committed, and no member is there"
    members = f"{len(group.members)} member{'' if len(group.members) == 1 else 's'}"
    unknown = f" in {len(found.partitions) - found.unknown} partitions" if found.unknown else ""
    rest = f", not known in {found.unknown}" if found.unknown else ""
    return f"{group.state}, {members}, lag [bold]{number(found.lag)}[/bold]{unknown}{rest}"


def _speeds(first: GroupLag, now: GroupLag) -> Speeds:
    """Return the offsets committed per second since the first state."""
    earlier = {(one.topic, one.partition): one.committed for one in first.partitions}
    seconds = max(now.at - first.at, 0.001)
    speeds: dict[tuple[str, int], float] = {}
    for one in now.partitions:
        committed = earlier.get((one.topic, one.partition))
        if committed is not None and one.committed is not None:
            speeds[one.topic, one.partition] = (one.committed - committed) / seconds
    return speeds

"""The input of the files: an application's settings and groups, checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from kafkaesk_core import Application, ConfigurationError

__all__ = ["Group", "Service"]

SECONDS_ABOVE = 5
"""Seconds to stop a container beyond `shutdown_timeout`, for the exit of the process."""


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group: the topics that it names, and the largest useful number of members.

    `has_pattern` says that the group also takes topics by a pattern.
    """

    name: str
    topics: tuple[str, ...]
    has_pattern: bool
    partitions: int


@dataclass(frozen=True, slots=True)
class Service:
    """An application and its deployment options; `grace` is a stop's time limit in seconds."""

    app: str
    name: str
    image: str
    port: int
    grace: int
    servers: str
    topic_prefix: str
    max_record_age: float
    groups: tuple[Group, ...]

    @classmethod
    def of(
        cls,
        app: str,
        application: Application,
        *,
        name: str | None,
        image: str | None,
        port: int,
        grace: int | None,
    ) -> Service:
        """Read an application.

        Raises:
            ConfigurationError: the name is invalid, or the grace is too short.
        """
        settings = application.settings
        name = name or _name_of(app)
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
            raise ConfigurationError(
                f"{name!r} cannot be a name in Kubernetes: it has lower-case letters, digits and "
                "'-', and at most 63 of them; give another with --name"
            )
        least = settings.shutdown_timeout
        if grace is not None and grace <= least:
            raise ConfigurationError(
                f"a grace of {grace} s is not above shutdown_timeout {least:g} s: the container "
                "would be killed while it commits; raise --grace, or lower shutdown_timeout"
            )
        return cls(
            app=app,
            name=name,
            image=image or f"{name}:latest",
            port=port,
            grace=math.ceil(least) + SECONDS_ABOVE if grace is None else grace,
            servers=_servers(settings.kafka_servers),
            topic_prefix=settings.topic_prefix,
            max_record_age=settings.max_record_age,
            groups=tuple(_groups(application)),
        )


def _name_of(app: str) -> str:
    module = app.partition(":")[0]
    return module.rpartition(".")[2].replace("_", "-").lower()


def _servers(configured: tuple[str, ...]) -> str:
    """Return the brokers; a usual address replaces a broker inside a process."""
    if not configured or "://" in configured[0]:
        return "kafka:9092"
    return ",".join(configured)


def _groups(application: Application) -> list[Group]:
    settings = application.settings
    partitions = {
        stream: schema.partitions or settings.partitions
        for schema in application.schemas.values()
        for stream in schema.streams
    }
    found: dict[str, Group] = {}
    for subscription in application.subscriptions:
        streams = subscription.literal_streams
        taken = streams or [stream for stream in partitions if subscription.matches(stream)]
        most = max((partitions.get(each, settings.partitions) for each in taken), default=0)
        group = found.get(subscription.group, Group(subscription.group, (), False, 1))
        found[subscription.group] = Group(
            group.name,
            (*group.topics, *(settings.topic_prefix + stream for stream in streams)),
            group.has_pattern or not streams,
            max(group.partitions, most or settings.partitions),
        )
    return list(found.values())

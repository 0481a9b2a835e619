"""What spans and points of one place are called and carry; made once per topic and partition."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TypeVar

from kafkaesk_core import Subscription

from .conventions import (
    DESTINATION_NAME,
    DESTINATION_TEMPLATE,
    FUNCTION_NAME,
    GROUP_NAME,
    KAFKA,
    OPERATION_NAME,
    OPERATION_TYPE,
    PARTITION_ID,
    SERVER_ADDRESS,
    SERVER_PORT,
    SYSTEM,
)
from .settings import OTelSettings

__all__ = ["Attributes", "View", "Views"]

K = TypeVar("K")
Attributes = Mapping[str, str | int]
REMEMBERED = 10_000
"""Views that are kept; with more topics and partitions than that they are made anew."""


class View:
    """One operation at one place: the span's name and first attributes, the points' labels.

    `labels` are those of durations, `counted` those of counters.
    """

    __slots__ = ("attributes", "counted", "labels", "name")

    def __init__(self, name: str, attributes: Attributes, labels: Attributes) -> None:
        self.name = name
        self.attributes = MappingProxyType(dict(attributes))
        untyped = {name: value for name, value in labels.items() if name != OPERATION_TYPE}
        is_process = labels[OPERATION_NAME] == "process"
        self.labels = untyped if is_process else labels
        # What was delivered is counted once, as what was polled.
        self.counted = {**untyped, OPERATION_NAME: "poll"} if is_process else untyped


class Views:
    """Makes the views, and keeps them; None for what is not to be traced (`exclude_topics`)."""

    def __init__(self, settings: OTelSettings, server: str | None) -> None:
        self._settings = settings
        self._server = _server_attributes(server)
        self._sends: dict[tuple[str, int | None], View | None] = {}
        self._processes: dict[tuple[Subscription, str, int], View | None] = {}
        self._commits: dict[tuple[Subscription, str | None], View | None] = {}

    def send(self, topic: str, partition: int | None) -> View | None:
        """The view of sending to a topic; to this partition, where it is known."""
        key = topic, partition
        try:
            return self._sends[key]
        except KeyError:
            view = self._new(topic, "send", "send", partition)
            return _keep(self._sends, key, view)

    def process(self, subscription: Subscription, topic: str, partition: int) -> View | None:
        """The view of handling the messages of a partition."""
        key = subscription, topic, partition
        try:
            return self._processes[key]
        except KeyError:
            view = self._new(topic, "process", "process", partition, subscription)
            return _keep(self._processes, key, view)

    def commit(self, subscription: Subscription, topic: str | None) -> View | None:
        """The view of committing offsets of a topic; None: of several."""
        key = subscription, topic
        try:
            return self._commits[key]
        except KeyError:
            view = self._new(topic, "commit", "settle", None, subscription)
            return _keep(self._commits, key, view)

    def _new(
        self,
        topic: str | None,
        operation: str,
        kind: str,
        partition: int | None,
        subscription: Subscription | None = None,
    ) -> View | None:
        if topic is not None and self._is_excluded(topic):
            return None
        template = None if topic is None else self._template(topic)
        shared: dict[str, str | int] = {SYSTEM: KAFKA, OPERATION_NAME: operation}
        shared[OPERATION_TYPE] = kind
        if subscription is not None:
            shared[GROUP_NAME] = subscription.group
        attributes = {**shared, **self._server}
        labels = dict(attributes)
        if topic is not None:
            attributes[DESTINATION_NAME] = topic
            labels[DESTINATION_NAME] = template or topic
        if template is not None:
            attributes[DESTINATION_TEMPLATE] = template
        if partition is not None:
            attributes[PARTITION_ID] = str(partition)
            if self._settings.metrics_partition:
                labels[PARTITION_ID] = str(partition)
        if operation == "process" and subscription is not None:
            attributes[FUNCTION_NAME] = subscription.handler_name
        destination = template or topic
        name = operation if destination is None else f"{operation} {destination}"
        return View(name, attributes, labels)

    def _is_excluded(self, topic: str) -> bool:
        return any(fnmatchcase(topic, pattern) for pattern in self._settings.exclude_topics)

    def _template(self, topic: str) -> str | None:
        for pattern, template in self._settings.destination_templates.items():
            if fnmatchcase(topic, pattern):
                return template
        return None


def _keep(kept: dict[K, View | None], key: K, view: View | None) -> View | None:
    if len(kept) >= REMEMBERED:
        kept.clear()
    kept[key] = view
    return view


def _server_attributes(server: str | None) -> dict[str, str | int]:
    """Split "host:port", also of an IPv6 address in brackets."""
    if not server:
        return {}
    host, colon, port = server.rpartition(":")
    if not colon or not port.isdigit():
        return {SERVER_ADDRESS: server}
    return {SERVER_ADDRESS: host.strip("[]"), SERVER_PORT: int(port)}

"""Names and attributes of spans, and labels of points: per partition and per message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from kafkaesk_core import (
    DecodeError,
    Stop,
)

from .semconv import (
    ATTEMPT,
    BODY_SIZE,
    CONVERSATION_ID,
    DESTINATION_NAME,
    DESTINATION_TEMPLATE,
    FUNCTION_NAME,
    GROUP_NAME,
    HEADER,
    KAFKA,
    MESSAGE_ID,
    MESSAGE_KEY,
    OFFSET,
    OPERATION_NAME,
    OPERATION_TYPE,
    PARTITION_ID,
    SCHEMA,
    SERVER_ADDRESS,
    SERVER_PORT,
    SYSTEM,
    TOMBSTONE,
)

if TYPE_CHECKING:
    from kafkaesk_core import (
        Header,
        IncomingMessage,
        OutgoingMessage,
        Subscription,
    )

    from .settings import OTelSettings

__all__ = [
    "Attributes",
    "SpanTemplate",
    "SpanTemplates",
    "key_text",
    "of_incoming",
    "of_outgoing",
    "schema_of",
]

K = TypeVar("K")
Attributes = Mapping[str, str | int]
REMEMBERED = 10_000
"""The number of cached templates; with more topics and partitions, templates are created again."""


class SpanTemplate:
    """An operation on a partition: the span's name and first attributes, and the points' labels.

    `labels` are the labels of durations, `counted` the labels of counters.
    """

    __slots__ = ("attributes", "counted", "labels", "name")

    def __init__(self, name: str, attributes: Attributes, labels: Attributes) -> None:
        self.name = name
        self.attributes = MappingProxyType(dict(attributes))
        untyped = {name: value for name, value in labels.items() if name != OPERATION_TYPE}
        is_process = labels[OPERATION_NAME] == "process"
        self.labels = untyped if is_process else labels
        # Delivered messages are counted once, as polled.
        self.counted = {**untyped, OPERATION_NAME: "poll"} if is_process else untyped


class SpanTemplates:
    """Creates and caches the templates; returns None for topics in `exclude_topics`."""

    def __init__(self, settings: OTelSettings, server: str | None) -> None:
        self._settings = settings
        self._server = _server_attributes(server)
        self._sends: dict[tuple[str, int | None], SpanTemplate | None] = {}
        self._processes: dict[tuple[Subscription, str, int], SpanTemplate | None] = {}
        self._commits: dict[tuple[Subscription, str | None], SpanTemplate | None] = {}

    def send(self, topic: str, partition: int | None) -> SpanTemplate | None:
        """Return the template for sending to a topic, and to a partition if it is known."""
        key = topic, partition
        try:
            return self._sends[key]
        except KeyError:
            template = self._new(topic, "send", "send", partition)
            return _keep(self._sends, key, template)

    def process(
        self, subscription: Subscription, topic: str, partition: int
    ) -> SpanTemplate | None:
        """Return the template for handling messages of a partition."""
        key = subscription, topic, partition
        try:
            return self._processes[key]
        except KeyError:
            template = self._new(topic, "process", "process", partition, subscription)
            return _keep(self._processes, key, template)

    def commit(self, subscription: Subscription, topic: str | None) -> SpanTemplate | None:
        """Return the template for committing offsets of a topic; None stands for several topics."""
        key = subscription, topic
        try:
            return self._commits[key]
        except KeyError:
            template = self._new(topic, "commit", "settle", None, subscription)
            return _keep(self._commits, key, template)

    def _new(
        self,
        topic: str | None,
        operation: str,
        kind: str,
        partition: int | None,
        subscription: Subscription | None = None,
    ) -> SpanTemplate | None:
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
        return SpanTemplate(name, attributes, labels)

    def _is_excluded(self, topic: str) -> bool:
        return any(fnmatchcase(topic, pattern) for pattern in self._settings.exclude_topics)

    def _template(self, topic: str) -> str | None:
        for pattern, template in self._settings.destination_templates.items():
            if fnmatchcase(topic, pattern):
                return template
        return None


def _keep(
    kept: dict[K, SpanTemplate | None], key: K, template: SpanTemplate | None
) -> SpanTemplate | None:
    if len(kept) >= REMEMBERED:
        kept.clear()
    kept[key] = template
    return template


def _server_attributes(server: str | None) -> dict[str, str | int]:
    """Split "host:port", including an IPv6 address in brackets."""
    if not server:
        return {}
    host, colon, port = server.rpartition(":")
    if not colon or not port.isdigit():
        return {SERVER_ADDRESS: server}
    return {SERVER_ADDRESS: host.strip("[]"), SERVER_PORT: int(port)}


# --- attributes of single messages, which only recorded spans get

Value = str | int | bool | list[str]
MAX_KEY = 256


def of_outgoing(message: OutgoingMessage, settings: OTelSettings) -> dict[str, Value]:
    """Return the attributes of a message before it is encoded."""
    attributes = _of_message(message.key, message.headers, settings)
    data = message.data
    if data is None:
        attributes[TOMBSTONE] = True
    elif settings.capture_body_size and isinstance(data, bytes):
        attributes[BODY_SIZE] = len(data)
    return attributes


def of_incoming(message: IncomingMessage, settings: OTelSettings) -> dict[str, Value]:
    """Return the attributes of a message before it is decoded."""
    attributes = _of_message(message.key, message.headers, settings)
    attributes[OFFSET] = message.offset
    if message.attempt > 1:
        attributes[ATTEMPT] = message.attempt
    try:
        value = message.record.value
    except (DecodeError, Stop):  # unreadable: its handling reports why
        return attributes
    if value is None:
        attributes[TOMBSTONE] = True
    elif settings.capture_body_size:
        attributes[BODY_SIZE] = len(value)
    return attributes


def schema_of(message: IncomingMessage) -> dict[str, Value]:
    """Return the schema named in the envelope, if the value is an envelope."""
    try:
        return {SCHEMA: message.schema}
    except DecodeError:
        return {}


def _of_message(
    key: bytes | None, headers: Sequence[Header], settings: OTelSettings
) -> dict[str, Value]:
    attributes: dict[str, Value] = {}
    if settings.capture_key and (text := key_text(key)) is not None:
        attributes[MESSAGE_KEY] = text
    for name, attribute in (
        (settings.conversation_id_header, CONVERSATION_ID),
        (settings.message_id_header, MESSAGE_ID),
    ):
        if name is not None and (values := _texts(headers, name)):
            attributes[attribute] = values[-1]
    for name in settings.capture_headers:
        if values := _texts(headers, name):
            attributes[HEADER + name] = values
    return attributes


def key_text(key: bytes | None) -> str | None:
    """Return the key as text, cut to a limit; None if it is not UTF-8."""
    if key is None:
        return None
    try:
        return key.decode()[:MAX_KEY]
    except UnicodeDecodeError:
        return None


def _texts(headers: Sequence[Header], name: str) -> list[str]:
    return [v.decode(errors="replace") for n, v in headers if n == name and v is not None]

"""Attributes of single messages, which only spans that are recorded get."""

from __future__ import annotations

from collections.abc import Sequence

from kafkaesk_core import DecodeError, Header, IncomingMessage, OutgoingMessage, Stop

from .conventions import (
    ATTEMPT,
    BODY_SIZE,
    CONVERSATION_ID,
    HEADER,
    MESSAGE_ID,
    MESSAGE_KEY,
    OFFSET,
    SCHEMA,
    TOMBSTONE,
)
from .settings import OTelSettings

__all__ = ["key_text", "of_incoming", "of_outgoing", "schema_of"]

Value = str | int | bool | list[str]
MAX_KEY = 256


def of_outgoing(message: OutgoingMessage, settings: OTelSettings) -> dict[str, Value]:
    """What is known of a message before it is encoded."""
    attributes = _of_message(message.key, message.headers, settings)
    data = message.data
    if data is None:
        attributes[TOMBSTONE] = True
    elif settings.capture_body_size and isinstance(data, bytes):
        attributes[BODY_SIZE] = len(data)
    return attributes


def of_incoming(message: IncomingMessage, settings: OTelSettings) -> dict[str, Value]:
    """What is known of a message before it is decoded."""
    attributes = _of_message(message.key, message.headers, settings)
    attributes[OFFSET] = message.offset
    if message.attempt > 1:
        attributes[ATTEMPT] = message.attempt
    try:
        value = message.record.value
    except (DecodeError, Stop):  # it cannot be read: the handling says why
        return attributes
    if value is None:
        attributes[TOMBSTONE] = True
    elif settings.capture_body_size:
        attributes[BODY_SIZE] = len(value)
    return attributes


def schema_of(message: IncomingMessage) -> dict[str, Value]:
    """The schema that the envelope names, if it is one."""
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
    """The key as text, cut; None for what has no unambiguous text."""
    if key is None:
        return None
    try:
        return key.decode()[:MAX_KEY]
    except UnicodeDecodeError:
        return None


def _texts(headers: Sequence[Header], name: str) -> list[str]:
    return [v.decode(errors="replace") for n, v in headers if n == name and v is not None]

"""Checks of what publishing is called with: clear errors before anything is encoded."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping

from .message import Header, Headers

__all__ = ["check_address", "check_many", "check_options", "checked_headers"]

_INT32, _INT64 = 2**31 - 1, 2**63 - 1


def check_address(stream: object, key: object, partition: object, timestamp_ms: object) -> None:
    """Check where a message shall go.

    Raises:
        TypeError: one of them has the wrong type; it is named.
        ValueError: the stream has no name, or a number is negative.
    """
    if type(stream) is str and stream and key is partition is timestamp_ms is None:
        return  # what most messages are
    if not isinstance(stream, str):
        raise TypeError(f"the stream is {stream!r} of type {type(stream).__name__}, not str")
    if not stream:
        raise ValueError("the stream's name is empty; give one")
    if key is not None and not isinstance(key, bytes):
        raise TypeError(f"the key is of type {type(key).__name__}, not bytes; encode it first")
    _check_number("partition", partition, _INT32)
    _check_number("timestamp_ms", timestamp_ms, _INT64)


def check_options(schema: object, origins: object, meta: object) -> None:
    """Check what a message may be given beside its address.

    Raises:
        TypeError: one of them has the wrong type; it is named.
    """
    if schema is not None and not isinstance(schema, str):
        raise TypeError(f'schema is of type {type(schema).__name__}, not str; give "Content:1"')
    if not isinstance(origins, (tuple, list)):
        raise TypeError(f"origins is of type {type(origins).__name__}, not a list of messages")
    if meta is not None and not isinstance(meta, Mapping):
        raise TypeError(f"meta is of type {type(meta).__name__}, not a dict")


def check_many(data: object, key: object) -> None:
    """Check that many messages can be taken, and what makes their keys.

    Raises:
        TypeError: one of them has the wrong type; it is named.
    """
    if not isinstance(data, (Iterable, AsyncIterable)):
        raise TypeError(
            f"data is of type {type(data).__name__}, not an iterable of messages; "
            "use publish() for one"
        )
    if key is not None and not callable(key):
        raise TypeError(
            f"key is of type {type(key).__name__}, not a function that makes each message's key"
        )


def _check_number(name: str, number: object, largest: int) -> None:
    if number is None:
        return
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} is {number!r} of type {type(number).__name__}, not int")
    if number < 0:
        raise ValueError(f"{name} is {number}; give 0 or more, or None")
    if number > largest:
        raise ValueError(f"{name} is {number}; Kafka's largest is {largest}")


def checked_headers(headers: Iterable[Header] | None) -> Headers:
    """Copy headers into a list of their own.

    Raises:
        TypeError: an entry is not a pair of str and bytes (or None).
        ValueError: a name cannot be written in UTF-8.
    """
    if headers is None:
        return []
    if isinstance(headers, Mapping):
        raise TypeError(
            "headers are pairs (name: str, value: bytes), of which a name may have several; "
            "pass list(headers.items())"
        )
    if not isinstance(headers, Iterable):
        raise TypeError(
            f"headers are of type {type(headers).__name__}, not a list of pairs "
            "(name: str, value: bytes)"
        )
    return [_checked_header(header) for header in headers]


def _checked_header(header: object) -> Header:
    if not (isinstance(header, (tuple, list)) and len(header) == 2):
        raise TypeError(f"header {header!r} is not a pair (name: str, value: bytes)")
    name, value = header
    if not isinstance(name, str):
        raise TypeError(f"header name {name!r} is {type(name).__name__}, not str")
    if not name.isascii() and not _is_unicode(name):
        raise ValueError(f"header name {name!r} has surrogates, which UTF-8 does not have")
    if value is not None and not isinstance(value, bytes):
        raise TypeError(
            f"header {name!r} has a value of type {type(value).__name__}, not bytes; "
            "encode it first"
        )
    return name, value


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)

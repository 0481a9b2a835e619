"""Checks of what publishing is called with: clear errors before anything is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .message import Header, Headers

__all__ = ["check_address", "checked_headers"]


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
    _check_number("partition", partition)
    _check_number("timestamp_ms", timestamp_ms)


def _check_number(name: str, number: object) -> None:
    if number is None:
        return
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} is {number!r} of type {type(number).__name__}, not int")
    if number < 0:
        raise ValueError(f"{name} is {number}; give 0 or more, or None")


def checked_headers(headers: Iterable[Header] | None) -> Headers:
    """Copy headers into a list of their own.

    Raises:
        TypeError: an entry is not a pair of str and bytes (or None).
    """
    if headers is None:
        return []
    if isinstance(headers, Mapping):
        raise TypeError(
            "headers are pairs (name: str, value: bytes), of which a name may have several; "
            "pass list(headers.items())"
        )
    checked: Headers = []
    for header in headers:
        if not (isinstance(header, (tuple, list)) and len(header) == 2):
            raise TypeError(f"header {header!r} is not a pair (name: str, value: bytes)")
        name, value = header
        if not isinstance(name, str):
            raise TypeError(f"header name {name!r} is {type(name).__name__}, not str")
        if value is not None and not isinstance(value, bytes):
            raise TypeError(
                f"header {name!r} has a value of type {type(value).__name__}, not bytes; "
                "encode it first"
            )
        checked.append((name, value))
    return checked

"""A mark among the headers of a message: do not inherit this name, and send none of it."""

from __future__ import annotations

from kafkaesk_core import Header

__all__ = ["DROP", "is_dropped"]


class _Dropped(bytes):
    """Passes for a header's value until the plugin takes it out."""


_NOTHING = _Dropped()


def DROP(name: str) -> Header:
    """Say, in `headers=`, that a message shall not inherit the header of this name."""
    return name, _NOTHING


def is_dropped(header: Header) -> bool:
    """Whether a header is such a mark."""
    return isinstance(header[1], _Dropped)

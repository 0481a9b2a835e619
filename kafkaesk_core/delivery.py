"""The outcome of one published message."""

from __future__ import annotations

__all__ = ["Delivery"]


class Delivery:
    """An awaitable for the broker's acknowledgement of one message."""

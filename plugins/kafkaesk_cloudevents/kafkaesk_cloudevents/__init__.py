"""CloudEvents for kafkaesk: written in binary mode, read in binary and structured mode."""

from __future__ import annotations

from .event import CloudEvent, event_headers
from .plugin import CloudEventsPlugin
from .settings import CloudEventsSettings

__all__ = [
    "CloudEvent",
    "CloudEventsPlugin",
    "CloudEventsSettings",
    "event_headers",
]

"""Header propagation for kafkaesk: messages inherit the headers of the handled record."""

from __future__ import annotations

from .causation import HopLimitError
from .context import (
    current_record,
    inherit_from,
    inherited_headers,
    no_propagation,
    propagating,
)
from .filter import drop_header
from .plugin import HeaderSettings, HeadersPlugin

DROP = drop_header
"""The earlier name of `drop_header`."""

HeaderPropagation = HeadersPlugin
"""The earlier name of `HeadersPlugin`."""

__all__ = [
    "DROP",
    "HeaderPropagation",
    "HeaderSettings",
    "HeadersPlugin",
    "HopLimitError",
    "current_record",
    "drop_header",
    "inherit_from",
    "inherited_headers",
    "no_propagation",
    "propagating",
]

"""Header propagation for kafkaesk: what is published for a record carries its headers on."""

from __future__ import annotations

from .dropping import DROP
from .lineage import HopLimitError
from .plugin import HeaderPropagation, HeaderSettings
from .surroundings import (
    current_record,
    inherit_from,
    inherited_headers,
    no_propagation,
    propagating,
)

__all__ = [
    "DROP",
    "HeaderPropagation",
    "HeaderSettings",
    "HopLimitError",
    "current_record",
    "inherit_from",
    "inherited_headers",
    "no_propagation",
    "propagating",
]

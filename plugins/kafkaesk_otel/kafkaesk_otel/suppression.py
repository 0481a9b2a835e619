"""Whether instrumentation is switched off here, as exporters do for what they send themselves."""

from __future__ import annotations

# Private by its underscore, and the one key that all instrumentations of Python look at.
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as KEY
from opentelemetry.context import Context

__all__ = ["is_suppressed"]


def is_suppressed(context: Context) -> bool:
    """Whether no spans shall be made in this context."""
    return bool(context) and bool(context.get(KEY))

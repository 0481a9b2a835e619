"""OpenTelemetry traces and metrics for kafkaesk; only the OpenTelemetry API is required."""

from __future__ import annotations

from .plugin import OTelPlugin
from .process import current_process_span
from .settings import OTelSettings

__all__ = ["OTelPlugin", "OTelSettings", "current_process_span"]

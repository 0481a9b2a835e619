"""Finds out whether an SDK is set up, and whether instrumentation is disabled."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace

# Private by its underscore, and the one key that all instrumentations of Python look at.
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESS

from .semconv import SCHEMA_URL

if TYPE_CHECKING:
    from opentelemetry.context import Context

__all__ = ["aiokafka_is_instrumented", "is_disabled", "is_suppressed", "meter_of", "tracer_of"]

SCOPE = "kafkaesk_otel"
AIOKAFKA = "opentelemetry.instrumentation.aiokafka"


def tracer_of(provider: trace.TracerProvider | None) -> trace.Tracer | None:
    """Return a tracer; None if no SDK would receive the spans."""
    tracer = trace.get_tracer(SCOPE, _version(), provider, SCHEMA_URL)
    return None if _is_of_the_api(tracer) else tracer


def meter_of(provider: metrics.MeterProvider | None) -> metrics.Meter | None:
    """Return a meter; None if no SDK would receive the points."""
    meter = metrics.get_meter(SCOPE, _version(), provider, SCHEMA_URL)
    return None if _is_of_the_api(meter) else meter


def _version() -> str:
    return metadata.version("kafkaesk-otel")


def _is_of_the_api(found: object) -> bool:
    """Whether this is a no-op tracer or meter of the API: there is no SDK, or it is disabled."""
    module = type(found).__module__
    return module.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def is_disabled() -> bool:
    """Whether OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names kafkaesk."""
    disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    return "kafkaesk" in (name.strip() for name in disabled.split(","))


def aiokafka_is_instrumented() -> bool:
    """Whether the instrumentation of aiokafka itself is active."""
    module = sys.modules.get(AIOKAFKA)
    instrumentor = getattr(module, "AIOKafkaInstrumentor", None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def is_suppressed(context: Context) -> bool:
    """Whether instrumentation is suppressed here, as exporters do for their own requests."""
    return bool(context) and bool(context.get(SUPPRESS))

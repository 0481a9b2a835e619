"""Whether anybody listens: an SDK for traces, for metrics, or another instrumentation."""

from __future__ import annotations

import os
import sys
from importlib import metadata

from opentelemetry import metrics, trace

from .conventions import SCHEMA_URL

__all__ = ["aiokafka_is_instrumented", "is_disabled", "meter_of", "tracer_of"]

SCOPE = "kafkaesk_otel"
AIOKAFKA = "opentelemetry.instrumentation.aiokafka"


def tracer_of(provider: trace.TracerProvider | None) -> trace.Tracer | None:
    """Return a tracer; None if what it would make goes nowhere."""
    tracer = trace.get_tracer(SCOPE, _version(), provider, SCHEMA_URL)
    return None if _is_of_the_api(tracer) else tracer


def meter_of(provider: metrics.MeterProvider | None) -> metrics.Meter | None:
    """Return a meter; None if what it measures goes nowhere."""
    meter = metrics.get_meter(SCOPE, _version(), provider, SCHEMA_URL)
    return None if _is_of_the_api(meter) else meter


def _version() -> str:
    return metadata.version("kafkaesk-otel")


def _is_of_the_api(found: object) -> bool:
    """The API's own do nothing: they stand in for an SDK that is not there, or disabled."""
    module = type(found).__module__
    return module.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def is_disabled() -> bool:
    """Whether OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names us."""
    disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    return "kafkaesk" in (name.strip() for name in disabled.split(","))


def aiokafka_is_instrumented() -> bool:
    """Whether the instrumentation of the Kafka client below us is active."""
    module = sys.modules.get(AIOKAFKA)
    instrumentor = getattr(module, "AIOKafkaInstrumentor", None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)

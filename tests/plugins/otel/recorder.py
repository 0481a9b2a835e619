"""An SDK of OpenTelemetry whose spans and points stay in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from kafkaesk_otel import OTelPlugin, OTelSettings

# Any in this file: labels, settings and arguments are of any type.


class Point(NamedTuple):
    """One point of a metric: a count, or the number of durations; its unit; its labels."""

    value: float
    unit: str
    labels: Mapping[str, Any]
    bounds: Sequence[float] = ()


class Recorder:
    """An SDK whose spans and points stay in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("test")

    def plugin(self, **arguments: Any) -> OTelPlugin:
        """A plugin that writes here; settings and arguments by name."""
        own = {
            name: arguments.pop(name) for name in (*arguments,) if name in OTelSettings.model_fields
        }
        providers = {"tracer_provider": self.tracers, "meter_provider": self.meters}
        return OTelPlugin(OTelSettings(**own), **{**providers, **arguments})

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """All spans that have ended, of names that begin so, in the order of their ends."""
        return [s for s in self._exporter.get_finished_spans() if s.name.startswith(name)]

    def span(self, name: str) -> ReadableSpan:
        """The one span of this name."""
        (found,) = (span for span in self.spans() if span.name == name)
        return found

    def points(self, metric: str = "") -> dict[str, list[Point]]:
        """All points of metrics whose names begin so."""
        found: dict[str, list[Point]] = {}
        data = self._reader.get_metrics_data()
        scopes = [s for r in data.resource_metrics for s in r.scope_metrics] if data else []
        for each in (m for scope in scopes for m in scope.metrics if m.name.startswith(metric)):
            for point in each.data.data_points:
                is_histogram = isinstance(point, HistogramDataPoint)
                value = point.count if is_histogram else point.value  # type: ignore[union-attr]
                bounds = point.explicit_bounds if is_histogram else ()  # type: ignore[union-attr]
                labels = dict(point.attributes or {})
                found.setdefault(each.name, []).append(
                    Point(value, each.unit or "", labels, tuple(bounds))
                )
        return found

    def shutdown(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()

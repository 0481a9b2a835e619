"""An OTLP receiver over HTTP: what exporters send, as plain values and as a picture in text."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

# Any in this file: attributes are of several types, protobuf makes its classes at run time.

ATTEMPT, DISPOSITION = "kafkaesk.attempt", "kafkaesk.disposition"


@dataclass(frozen=True)
class Received:
    """One span that has arrived."""

    service: str
    scope: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass
class Receiver:
    """Where exporters send to, and what has arrived."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)

    def take_spans(self, body: bytes) -> bytes:
        """Note the spans of one request; return the answer."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = values_of(resource.resource.attributes)["service.name"]
            for scoped in resource.scope_spans:
                self.spans += [received(service, scoped.scope.name, s) for s in scoped.spans]
        return bytes(ExportTraceServiceResponse().SerializeToString())

    def take_metrics(self, body: bytes) -> bytes:
        """Note the names of the metrics of one request; return the answer."""
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scoped in resource.scope_metrics:
                self.metrics |= {f"{metric.name} {metric.unit}" for metric in scoped.metrics}
        return bytes(ExportMetricsServiceResponse().SerializeToString())


def values_of(attributes: Any) -> dict[str, Any]:
    return {
        a.key: getattr(a.value, a.value.WhichOneof("value") or "string_value") for a in attributes
    }


def received(service: str, scope: str, span: Any) -> Received:
    return Received(
        service,
        scope,
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple(link.span_id.hex() for link in span.links),
        values_of(span.attributes),
    )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive until the block ends."""
    receiver = Receiver()
    paths = {"/v1/traces": receiver.take_spans, "/v1/metrics": receiver.take_metrics}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = paths[self.path](body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def drawn(spans: list[Received], parent_id: str = "", indent: str = "") -> str:
    """The trees of traces, a line per span: name, attempt, kind, service, what it links to."""
    names = {span.span_id: span.name for span in spans}
    lines = []
    children = (s for s in spans if s.parent_id == parent_id)
    for span in sorted(children, key=lambda s: (s.name, s.attributes.get(ATTEMPT, 1))):
        linked = ", ".join(names.get(link, "elsewhere") for link in span.links)
        told = [
            f"{name.removeprefix('kafkaesk.')} {span.attributes[name]}"
            for name in (ATTEMPT, DISPOSITION)
            if name in span.attributes
        ]
        lines.append(
            f"{indent}{', '.join([span.name, *told])}  {span.kind}  ({span.service})"
            + (f"  linked to: {linked}" if linked else "")
        )
        below = drawn(spans, span.span_id, indent + "  ")
        lines += [below] if below else []
    return "\n".join(lines)

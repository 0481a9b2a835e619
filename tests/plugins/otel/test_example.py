"""The example of tracing: its command sends traces, its files fit each other."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from kafkaesk_testing import eventually
from tests.plugins.otel.instrumented import instrumented
from tests.plugins.otel.receiver import Received, Receiver, drawn, receiving

# Any in this file: what YAML holds.

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "tracing"


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLE / name).read_text())


def first_trace(receiver: Receiver) -> list[Received]:
    """The spans of whichever trace arrived first."""
    return [span for span in receiver.spans if span.trace_id == receiver.spans[0].trace_id]


async def test_the_command_of_the_readme_sends_the_traces_of_the_orders(tmp_path: Path) -> None:
    (line,) = (
        line
        for line in (EXAMPLE / "README.md").read_text().splitlines()
        if line.startswith("OTEL_SERVICE_NAME")
    )
    setting, program, *command = shlex.split(line)
    name, _, service = setting.partition("=")
    with receiving() as receiver:
        environment = {name: service, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        output = tmp_path / "output"
        with instrumented(*command, folder=ROOT, output=output, environment=environment):
            await eventually(lambda: len(first_trace(receiver)) >= 2, within=60)

    assert program == "opentelemetry-instrument"
    assert drawn(first_trace(receiver)) == (
        "send orders.placed  PRODUCER  (orders)\n"
        "  process orders.placed  CONSUMER  (orders)  linked to: send orders.placed"
    )


def test_the_collector_is_where_exporters_send_to_and_hands_on_to_jaeger() -> None:
    services, collector = read("docker-compose.yml")["services"], read("collector.yml")
    published = {port.split(":")[-1] for port in services["collector"]["ports"]}
    protocols = collector["receivers"]["otlp"]["protocols"].values()

    assert {each["endpoint"].split(":")[1] for each in protocols} == published == {"4317", "4318"}
    assert collector["exporters"]["otlp"]["endpoint"].split(":")[0] in services
    path = services["collector"]["command"][0].removeprefix("--config=")
    assert services["collector"]["volumes"] == [f"./collector.yml:{path}:ro"]
    defined = {kind: set(collector[kind]) for kind in ("receivers", "processors", "exporters")}
    for pipeline in collector["service"]["pipelines"].values():
        assert all(set(pipeline[kind]) <= names for kind, names in defined.items())
    assert all(":" in service["image"] for service in services.values())
    assert "localhost:16686" in (EXAMPLE / "README.md").read_text()
    assert services["jaeger"]["ports"] == ["127.0.0.1:16686:16686"]

"""What the README shows works, and its tables are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import kafkaesk_otel
from kafkaesk_otel import semconv
from tests.plugins.otel.test_end_to_end import EXPECTED

README = (Path(kafkaesk_otel.__file__).parents[1] / "README.md").read_text()
EXAMPLE = re.search(r"<!-- run: billing.py -->\n```python\n(.*?)```", README, flags=re.DOTALL)

DRIVE = """
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from billing import app

app.configure(["embedded://?topics=orders,invoices&partitions=1"])
exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

async def main() -> None:
    async with app:
        await app.raw_publish("orders", b"7")
        await app.consume_for(1, seconds=20)
    for span in sorted(exporter.get_finished_spans(), key=lambda span: span.name):
        print(span.name, span.attributes.get("shop.order"))

asyncio.run(main())
"""


def test_the_example_is_traced(tmp_path: Path) -> None:
    assert EXAMPLE is not None
    (tmp_path / "billing.py").write_text(EXAMPLE[1])

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVE],
        cwd=tmp_path,
        env={**os.environ, "KAFKAESK_PLUGINS": "otel"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.stdout == "process orders 7\nsend invoices None\nsend orders None\n", (
        result.stderr
    )


def test_the_readme_names_each_metric_and_our_own_attributes() -> None:
    names = (
        semconv.OPERATION_DURATION,
        semconv.SENT_MESSAGES,
        semconv.CONSUMED_MESSAGES,
        semconv.PROCESS_DURATION,
        semconv.LAG,
        semconv.CANCELLED,
        semconv.DISPOSITION,
        semconv.HEADER,
    )

    assert [name for name in names if name not in README] == []


def test_the_readme_shows_the_trace_that_arrives() -> None:
    assert EXPECTED in README

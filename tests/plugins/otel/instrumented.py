"""A service as its operator starts it: the command, with the SDK that a package sets up."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.programs import Program

PROGRAMS = Path(sys.executable).parent


@contextmanager
def instrumented(
    *command: str, folder: Path, output: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run it in `folder` until the block ends; then it must stop cleanly at a signal."""
    settings = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_LOGS_EXPORTER": "none",
        # That of logging starts a thread at exit, which Python 3.12 refuses.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "aiokafka,logging",
        **environment,
    }
    started = (PROGRAMS / "opentelemetry-instrument", PROGRAMS / command[0])
    with Program(
        *started, *command[1:], folder=folder, output=output, environment=settings
    ) as running:
        yield
        code = running.end(signal.SIGTERM)
        assert code == 0, running.printed
        assert "Traceback" not in running.printed

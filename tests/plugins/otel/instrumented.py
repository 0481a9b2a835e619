"""A service as its operator starts it: the command, with the SDK that a package sets up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path(sys.executable).parent


@contextmanager
def instrumented(
    *command: str, folder: Path, output: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run it in `folder` until the block ends; then it must stop cleanly at a signal."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [PROGRAMS / "opentelemetry-instrument", PROGRAMS / command[0], *command[1:]],
            cwd=folder,
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "OTEL_METRIC_EXPORT_INTERVAL": "500",
                "OTEL_LOGS_EXPORTER": "none",
                # That of logging starts a thread at exit, which Python 3.12 refuses.
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "aiokafka,logging",
                **environment,
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
            process.send_signal(signal.SIGTERM)
            code, told = process.wait(30), output.read_text()
            assert code == 0, told
            assert "Traceback" not in told
        finally:
            process.kill()
            process.wait()

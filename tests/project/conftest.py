"""What was not tried is told at the end of a run."""

from __future__ import annotations

import re

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line each which Pythons were not found."""
    skips = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for missing in sorted(
        {m for s in skips for m in re.findall(r"Python [\d.]+ was not found.*?(?=')", s)}
    ):
        terminalreporter.line(missing, yellow=True)

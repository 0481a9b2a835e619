"""`kafkaesk plugins` prints a line per plugin, and paragraphs on a terminal that is too narrow."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from kafkaesk_core import PluginInfo
from kafkaesk_core.plugin_tables import plugin_table

AUDIT = PluginInfo(
    name="audit",
    source="kafkaesk-audit",
    value="kafkaesk_audit.plugin:AuditPlugin",
    version="1.2",
    hooks=("lifespan", "wrap_consume", "wrap_publish"),
)
OUTBOX = PluginInfo(
    name="outbox",
    source="no package",
    value="",
    status="failed",
    reason="KAFKAESK_PLUGINS names it,\n  and no package provides it",
)


@pytest.mark.parametrize("width", [None, 200])
def test_a_plugin_is_one_line_for_programs_and_on_a_wide_terminal(width: int | None) -> None:
    _, audit, outbox = plugin_table([AUDIT, OUTBOX], width)

    assert audit.split("  ")[0] == "audit"
    assert audit.endswith("active  lifespan, wrap_consume, wrap_publish")
    assert outbox.startswith("outbox")
    assert " failed  - " in outbox
    assert outbox.endswith("KAFKAESK_PLUGINS names it, and no package provides it")


def test_a_narrow_terminal_shows_a_paragraph_per_plugin() -> None:
    assert list(plugin_table([AUDIT, OUTBOX], 40)) == [
        "audit 1.2 active",
        "    kafkaesk-audit",
        "    (kafkaesk_audit.plugin:AuditPlugin)",
        "    lifespan, wrap_consume, wrap_publish",
        "outbox failed",
        "    no package",
        "    KAFKAESK_PLUGINS names it, and no",
        "    package provides it",
    ]


def test_a_word_that_is_wider_than_the_terminal_stays_whole() -> None:
    assert "    (kafkaesk_audit.plugin:AuditPlugin)" in list(plugin_table([AUDIT], 3))


def test_the_command_asks_the_terminal_for_its_width() -> None:
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "kafkaesk_core", "plugins"],
        env={**os.environ, "COLUMNS": "60"},
        stdout=theirs,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode().replace("\r", "").splitlines()
    os.close(ours)

    assert any(line.startswith("headers ") and line.endswith(" active") for line in shown)
    assert max(map(len, shown)) <= 60

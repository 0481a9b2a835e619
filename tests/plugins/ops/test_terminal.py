"""What `kafkaesk lag --watch` and `kafkaesk status` show on a terminal is what the guide shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from kafkaesk_testing import Kafka
from kafkaesk_testing.properties import free_ports
from tests.programs import Program, kafkaesk
from tests.project.test_documents import OUTPUT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GUIDE = Path(__file__).parents[3] / "docs/guides/operations.md"
PATIENCE = 120.0
SHOP = """
import asyncio, os
import kafkaesk_core

app = kafkaesk_core.Application(auto_commit_interval_ms=200, partitions=3)

@app.subscribe("orders.placed", os.environ["GROUP"])
async def bill(order: bytes) -> None:
    await asyncio.sleep(0.02)

@app.on("initialize")
async def place() -> None:
    for number in range(300):
        await app.raw_publish("orders.placed", b"%d" % number, partition=number % 3)
"""


def on_a_terminal(command: list[str], folder: Path, until: Callable[[str], bool]) -> str:
    """What a command shows on a wide terminal, without colours, until it shows this or ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    process = subprocess.Popen(command, cwd=folder, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + PATIENCE
    try:
        while not until(plain(shown)) and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    shown += os.read(ours, 65_536)
                except OSError:  # it has ended
                    break
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return plain(shown)


def plain(shown: bytes) -> str:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", shown.decode())


def shape(line: str) -> str:
    """A line without its numbers and addresses, and without counts that may be 0."""
    line = re.sub(r"(?<=done)(, [\d,]+ \w+)+$", "", line.rstrip())
    line = re.sub(r"\S+:\d{2,}\b|\b\d+\.\d+\.\d+\.\d+\b", "ADDRESS", line)
    return " ".join(re.sub(r"-(?= )|-$|[\d,]*\d(?:\.\d+)*", "N", line).split())


@pytest.fixture
def group() -> str:
    return f"billing-{uuid.uuid4().hex[:8]}"


def test_a_terminal_shows_what_the_guide_shows(kafka: Kafka, group: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (port,), prefix = free_ports(1), f"{group}."
    environment = {
        "KAFKAESK_KAFKA_SERVERS": ",".join(kafka.servers),
        "KAFKAESK_TOPIC_PREFIX": prefix,
        "KAFKAESK_OPS_PORT": str(port),
        "GROUP": group,
        "COLUMNS": "160",
    }
    command = [sys.executable, "-m", "kafkaesk_core"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with kafkaesk("shop:app", folder=tmp_path) as service:
            service.wait_for("assigned", within=PATIENCE)
            watched = on_a_terminal(
                [*command, "lag", "shop:app", "--watch", "--interval", "0.3"],
                tmp_path,
                lambda shown: shown.count("PER SECOND") > 1,
            )
            asked = on_a_terminal([*command, "status", str(port)], tmp_path, lambda _: False)
            assert stop(service) == 0

    shown = dict(OUTPUT.findall(GUIDE.read_text()))
    for name, printed in (("lag", watched), ("status", asked)):
        text = printed.replace(prefix, "").replace(group, "billing")
        real = {shape(line) for line in text.splitlines()}
        assert [line for line in shown[name].splitlines() if shape(line) not in real] == [], printed


def stop(service: Program) -> int:
    return service.end(signal.SIGINT, within=PATIENCE)

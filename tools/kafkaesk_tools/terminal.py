"""`uv run terminal`: draws the output of commands about a running service, for the guides.

It runs a service with two groups, one of them stuck, on Apache Kafka, and the commands in a
terminal of 80 columns. It needs Java and Maven, as the tests do.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from kafkaesk_testing import KafkaCluster
from kafkaesk_testing.properties import free_ports

__all__ = ["main"]

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
COLUMNS = 80
SECONDS = 15.0
"""Seconds after which the stuck handler has run for longer than `max_record_age`."""
SHOP = """
import asyncio
import kafkaesk_core
from kafkaesk_core import Retry
from pydantic import BaseModel

app = kafkaesk_core.Application(partitions=3)
app.configure(max_record_age=8)

@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int
    article: str

@app.subscribe("orders.*", "billing")
async def bill(order: Order) -> None:
    await asyncio.sleep(0.005)
    if order.number == 700:
        raise Retry("421 the mail server is busy; try again later", delay=600)

@app.subscribe("orders.*", "search", on_error="skip")
async def index(order: Order) -> None:
    if order.number == 40:
        await asyncio.sleep(3600)
    if order.number % 300 == 1:
        raise LookupError(f"{order.article!r} is not in the catalogue")

@app.on("initialize")
async def place() -> None:
    app.publishing = asyncio.create_task(publish())

async def publish() -> None:
    for number in range(100_000):
        key = b"c%d" % (number % 9)
        await app.publish("orders.placed", Order(number=number, article="a coffee"), key=key)
        await asyncio.sleep(0.01)
"""


def main() -> None:
    """Draw docs/guides/terminal-operations.svg and terminal-develop.svg."""
    with KafkaCluster(1) as kafka, TemporaryDirectory() as made:
        folder, (port,) = Path(made), free_ports(1)
        (folder / "shop.py").write_text(SHOP)
        environment = {
            **os.environ,
            "KAFKAESK_KAFKA_SERVERS": kafka.host_port,
            "KAFKAESK_OPS_PORT": str(port),
            "KAFKAESK_RETRY_ENABLED": "false",
        }
        with _running(folder, environment):
            time.sleep(SECONDS)
            draw("terminal-operations.svg", folder, environment, f"status {port}", "lag shop:app")
            draw(
                *("terminal-develop.svg", folder, environment),
                *("tail orders.placed -n 4", "inspect shop:app 'orders.placed[0]@3'"),
            )


@contextmanager
def _running(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "kafkaesk_core", "shop:app"]
    service = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        service.send_signal(signal.SIGKILL)  # one of its handlers is stuck
        service.wait()


def draw(name: str, folder: Path, environment: Mapping[str, str], *commands: str) -> None:
    """Run commands one after the other, and draw the terminal with their output."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command in commands:
        console.print(f"[bold green]$[/bold green] kafkaesk {command}", highlight=False)
        line = f"exec {sys.executable} -m kafkaesk_core {command}"
        console.print(Text.from_ansi(_on_a_terminal(line, folder, environment)), soft_wrap=True)
        console.print()
    picture = GUIDES / name
    picture.write_text(console.export_svg(title="kafkaesk", unique_id=picture.stem))
    sys.stdout.write(f"wrote {picture}\n")


def _on_a_terminal(line: str, folder: Path, environment: Mapping[str, str]) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["/bin/sh", "-c", line], cwd=folder, env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65_536):
            shown += data
    except OSError:  # it has ended
        pass
    finally:
        os.close(ours)
        process.wait()
    return shown.decode().replace("\r\n", "\n").rstrip()

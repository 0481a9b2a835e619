"""`kafkaesk dev`: a service is run anew when a file changes, and nothing is lost or left behind.

`KAFKAESK_DEV_RELOADS=50 uv run pytest -n 0 tests/plugins/dev/test_dev.py` plays more reloads.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from kafkaesk_core.cli import cli
from tests.programs import Program, kafkaesk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE = 150.0
RELOADS = int(os.environ.get("KAFKAESK_DEV_RELOADS", "3"))
SHOP = """
import os, pathlib
import kafkaesk_core

app = kafkaesk_core.Application("kafka-1:9092")  # which does not exist

@app.subscribe("orders", "billing")
async def bill(order: bytes) -> None:
    with pathlib.Path("handled").open("a") as file:
        file.write(order.decode() + "\\n")

@app.on("initialize")
async def start() -> None:
    pathlib.Path("pid").write_text(str(os.getpid()))
    print("version 0 runs", flush=True)
"""


class Developing:
    """The command in a folder with a service, and what the service does."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.folder, self.program = folder, program
        self.version = 0

    def change(self, text: str | None = None) -> None:
        """Change the service: to this text, or to its next version."""
        self.version += 1
        path = self.folder / "shop.py"
        path.write_text(text or SHOP.replace("version 0", f"version {self.version}"))

    def wait_for_version(self) -> None:
        wait(self.program, f"version {self.version} runs")

    @property
    def address(self) -> str:
        found = re.search(r"embedded://(\S+)", self.program.printed)
        assert found is not None
        return found[1]

    @property
    def handled(self) -> list[str]:
        path = self.folder / "handled"
        return path.read_text().split() if path.exists() else []

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def wait(program: Program, *texts: str) -> None:
    """A start takes seconds of computing, which a busy machine does not have at once."""
    program.wait_for(*texts, within=PATIENCE)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def publish(address: str, first: int, count: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        for number in range(first, first + count):
            await producer.send_and_wait("orders", str(number).encode())


def test_reloads_lose_nothing_and_leave_nothing_behind(shop: Path) -> None:
    with kafkaesk("dev", "shop:app", folder=shop) as program:
        developing = Developing(shop, program)
        developing.wait_for_version()
        pids = [developing.pid]
        for number in range(RELOADS):
            asyncio.run(publish(developing.address, 10 * number, 5))
            developing.change()
            asyncio.run(publish(developing.address, 10 * number + 5, 5))
            developing.wait_for_version()
            pids.append(developing.pid)
        wanted = {str(number) for number in range(10 * RELOADS)}
        until(lambda: wanted <= set(developing.handled), "an order was not handled")
        code = program.end(signal.SIGINT)

    assert code == 0
    assert len(developing.handled) == len(wanted)  # a clean stop repeats nothing
    assert len(set(pids)) == RELOADS + 1
    assert not any(map(is_running, pids))
    host, _, port = developing.address.rpartition(":")
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port)), 5):
        pass
    assert program.printed.count("handlers") == 1  # what the service is made of is shown once
    assert "shop.bill takes orders as billing" in program.printed


def test_an_error_is_shown_and_the_next_change_is_waited_for(shop: Path) -> None:
    (shop / "shop.py").write_text("def order(:\n")
    with kafkaesk("dev", "shop:app", folder=shop) as program:
        developing = Developing(shop, program)
        wait(program, "SyntaxError: invalid syntax", "ended with code 2; waiting for a change")
        developing.change("raise LookupError('no such printer')\n")
        wait(program, 'shop.py", line 1', "LookupError: no such printer")
        developing.change(SHOP.replace("file.write(", "raise LookupError("))
        wait(program, "version 0 runs")
        asyncio.run(publish(developing.address, 7, 1))
        wait(program, "LookupError: 7", "ended with code 1; waiting for a change")
        developing.change()
        until(lambda: developing.handled == ["7"], "the order that failed was not handled again")
        code = program.end(signal.SIGTERM)

    assert code == 0
    assert 'raise LookupError(order.decode() + "\\n")' in program.printed
    assert "shop.bill takes orders as billing" in program.printed


def test_a_service_ends_with_the_command_that_was_killed(shop: Path) -> None:
    with kafkaesk("dev", "shop:app", folder=shop) as program:
        developing = Developing(shop, program)
        developing.wait_for_version()
        pid = developing.pid
        assert is_running(pid)

        program.kill()

        until(lambda: not is_running(pid), "the service outlived the command")


def test_a_folder_that_is_not_there_cannot_be_watched() -> None:
    refused = CliRunner().invoke(cli, ["dev", "shop:app", "--watch", "nix"])

    assert refused.exit_code == 2
    assert "nix cannot be watched: it does not exist" in refused.output

"""A process ends within shutdown_timeout, whatever its handlers do; the exit code says how."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafkaesk_core import ShutdownIncompleteError
from kafkaesk_testing import KafkaCluster
from tests.programs import Program, kafkaesk

SERVICE = """
import asyncio, threading, time
import kafkaesk_core

app = kafkaesk_core.Application(cancel_grace=0.5, commit_timeout=1.0)

@app.subscribe("work", "{group}")
async def handle(data: bytes) -> None:
    print("handling", flush=True)
    {body}

async def publish() -> None:
    await app.raw_publish("work", b"x")

app.on("initialize", publish)
"""
SWALLOWS = """
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""
TIMES = ["--drain-timeout=0.5", "--shutdown-timeout=5"]

Start = Callable[[str], Program]


@pytest.fixture
def start(tmp_path: Path, kafka: Any) -> Iterator[Start]:
    started: list[Program] = []

    def start(body: str) -> Program:
        (tmp_path / "service.py").write_text(
            SERVICE.format(body=body.strip(), group=os.urandom(4).hex())
        )
        servers = f"--kafka-servers={','.join(kafka.servers)}"
        prefix = f"--topic-prefix=end-{os.urandom(4).hex()}."
        command = kafkaesk("service:app", servers, prefix, *TIMES, folder=tmp_path)
        started.append(command)
        command.wait_for("handling")
        return command

    yield start
    for command in started:
        command.kill()


def end_of(command: Program) -> tuple[int, float]:
    asked = time.monotonic()
    code = command.end(signal.SIGTERM, within=30)
    return code, time.monotonic() - asked


def test_a_handler_that_swallows_its_cancellation_is_named_and_ends_with_the_process(
    start: Start,
) -> None:
    command = start(SWALLOWS)

    code, seconds = end_of(command)

    assert (code, seconds < 5) == (ShutdownIncompleteError.exit_code, True)
    assert "handler service.handle): the handler ignores its cancellation" in command.printed
    assert "still runs handle(), at" in command.printed


def test_a_thread_that_outlives_the_stop_ends_with_the_process(start: Start) -> None:
    command = start("await asyncio.to_thread(time.sleep, 60)")

    code, seconds = end_of(command)

    assert (code, seconds < 6) == (ShutdownIncompleteError.exit_code, True)
    assert "waiting up to" in command.printed
    assert "still runs, in a call that is not Python code" in command.printed


def test_a_thread_that_ends_in_time_is_waited_for(start: Start) -> None:
    command = start("""
    def work():
        time.sleep(2)
        print("finished", flush=True)
    await asyncio.to_thread(work)
""")

    code, seconds = end_of(command)

    assert (code, seconds < 5) == (0, True)
    assert "finished" in command.printed


def test_a_thread_of_the_service_that_never_ends_ends_with_the_process(start: Start) -> None:
    command = start("threading.Thread(target=time.sleep, args=(60,)).start()")

    code, seconds = end_of(command)

    assert (code, seconds < 7) == (0, True)  # stopped in order, so it is not incomplete
    assert "still runs" in command.printed


def test_a_handler_that_blocks_the_event_loop_ends_with_the_process(start: Start) -> None:
    command = start("time.sleep(60)")

    code, seconds = end_of(command)

    assert (code, seconds < 7.5) == (ShutdownIncompleteError.exit_code, True)
    assert "MainThread still runs handle(), at" in command.printed


def test_what_fails_while_another_handler_hangs_keeps_its_exit_code(start: Start) -> None:
    command = start("""
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise ValueError("no")
""")

    asked = time.monotonic()
    code = command.end(within=30)

    assert (code, time.monotonic() - asked < 10) == (1, True)
    assert "ValueError: no" in command.printed


@pytest.mark.f18
@pytest.mark.parametrize(("fault", "sleeping"), [("freeze", 60), ("kill", 0)])
def test_a_broker_that_is_gone_does_not_count_shutdown_timeout_twice(
    tmp_path: Path, broker: KafkaCluster, fault: str, sleeping: int
) -> None:
    """Handlers that sleep, messages that cannot be delivered, log lines that cannot be shipped."""
    prefix = f"gone-{os.urandom(4).hex()}."
    (tmp_path / "service.py").write_text(PUBLISHING.format(sleeping=sleeping))
    command = kafkaesk(
        "service:app",
        f"--kafka-servers={broker.host_port}",
        f"--topic-prefix={prefix}",
        *("--drain-timeout=2", "--shutdown-timeout=10"),
        folder=tmp_path,
        KAFKAESK_LOGGING_STREAM="logs",
    )
    try:
        command.wait_for("publishing")
        node = broker.nodes[0]
        node.freeze() if fault == "freeze" else node.kill()
        code, seconds = end_of(command)

        assert (code, seconds < 13) == (0, True), (
            command.printed
        )  # counted twice it was 17 and more
        assert f"topic {prefix}work:" in command.printed  # what was not delivered
    finally:
        command.kill()


PUBLISHING = """
import asyncio
import kafkaesk_core

app = kafkaesk_core.Application()

@app.subscribe("work", "workers")
async def handle(data: bytes) -> None:
    await asyncio.sleep({sleeping})

async def publish() -> None:
    for number in range(100_000):
        delivery = await app.raw_publish("work", b"x")
        if number == 100:
            await delivery
            print("publishing", flush=True)
        await asyncio.sleep(0.005)

async def start() -> None:
    app.publishing = asyncio.create_task(publish())

app.on("initialize", start)
"""

"""The command `kafkaesk logs`, as a process, and the text of a line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner

from kafkaesk_core import Application
from kafkaesk_logging import PydanticKafkaeskHandler
from kafkaesk_logging.command import logs
from kafkaesk_logging.text import LineText, level_of
from kafkaesk_testing import EmbeddedBroker


@pytest_asyncio.fixture
async def shipped(app: Application, logger: logging.Logger) -> AsyncIterator[logging.Logger]:
    """A logger whose lines are shipped; three are there."""
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)
    async with app:
        logger.debug("looking", extra={"order": 7})
        logger.warning("late")
        logger.error("gone")
        assert await handler.drain(5)
        yield logger


async def started(broker: EmbeddedBroker, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kafkaesk_core", "logs", *arguments),
        env={**os.environ, "KAFKAESK_KAFKA_SERVERS": broker.host_port},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def printed(broker: EmbeddedBroker, *arguments: str) -> tuple[int | None, str, str]:
    process = await started(broker, *arguments)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, out.decode(), err.decode()


async def test_the_command_prints_the_lines_of_a_stream(
    shipped: logging.Logger, embedded_kafka: EmbeddedBroker
) -> None:
    code, out, err = await printed(embedded_kafka, "logs")

    assert (code, err) == (0, "")
    first, second, third = out.splitlines()
    assert "DEBUG" in first
    assert first.endswith("shop.orders: looking order=7")
    assert "late" in second
    assert "gone" in third
    assert "\x1b" not in out


async def test_the_command_leaves_out_what_is_not_asked_for(
    shipped: logging.Logger, embedded_kafka: EmbeddedBroker
) -> None:
    code, out, _ = await printed(
        embedded_kafka, "logs", "--level", "warning", "--grep", "l.te", "--json"
    )

    assert code == 0
    (line,) = [json.loads(text) for text in out.splitlines()]
    assert (line["message"], line["level"]) == ("late", 30)


async def test_the_command_follows_until_it_is_stopped(
    shipped: logging.Logger, embedded_kafka: EmbeddedBroker
) -> None:
    process = await started(embedded_kafka, "logs", "--follow")
    assert process.stdout is not None

    async with asyncio.timeout(30):
        before = [await process.stdout.readline() for _ in range(3)]
        shipped.info("just now")
        after = await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        code = await process.wait()

    assert b"gone" in before[2]
    assert b"just now" in after
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("logs", "--level", "loud"), "'loud' is no level"),
        (("logs", "--grep", "("), "--grep '('"),
        (("logs", "--kafka-servers", "nowhere"), "write host:port"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], told: str) -> None:
    level = logging.getLogger("aiokafka").level
    result = CliRunner().invoke(logs, arguments)
    logging.getLogger("aiokafka").setLevel(level)

    assert result.exit_code != 0
    assert told in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_line_is_coloured_and_cannot_command_the_terminal() -> None:
    fields: dict[str, Any] = {
        "severity": "ERROR",
        "level": 40,
        "message": "a\x1b[2Jb",
        "trace": "T",
    }

    text = LineText(has_colours=True).of(fields)

    assert "\x1b[31mERROR" in text
    assert "a\\x1b[2Jb" in text
    assert text.endswith("\nT")


def test_levels_are_names_or_numbers() -> None:
    assert (level_of("warning"), level_of("15"), level_of("loud")) == (30, 15, None)

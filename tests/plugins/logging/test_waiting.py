"""Lines that no application will ship: told at the first line after its start, once."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from kafkaesk_core import Application
from kafkaesk_logging import LoggingPlugin, PydanticKafkaeskHandler
from kafkaesk_logging.applications import PATIENCE, StartWatch
from kafkaesk_testing import EmbeddedBroker


@pytest.fixture
def bare_app(embedded_kafka: EmbeddedBroker) -> Application:
    return Application(embedded_kafka.servers, create_topics=False, entry_points=False)


@pytest.mark.parametrize("reference", [lambda app: app, lambda app: lambda: app])
async def test_an_application_without_the_plugin_is_told_at_the_first_line(
    bare_app: Application,
    logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    reference: Callable[[Application], Application],
) -> None:
    logger.addHandler(PydanticKafkaeskHandler(reference(bare_app)))
    logger.info("before the start: it may have the plugin by then")
    assert capsys.readouterr().err == ""

    async with bare_app:
        logger.info("first")
        first = capsys.readouterr().err
        logger.info("second")

    assert first.startswith("kafkaesk-logging: 2 log records wait: their application runs without ")
    assert "give the application LoggingPlugin() of kafkaesk_logging in plugins=" in first
    assert "runs without" not in capsys.readouterr().err


async def test_an_application_with_the_plugin_is_not_told(
    app: Application, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(PydanticKafkaeskHandler(app))
    logger.info("before")

    async with app:
        logger.info("first")

    assert capsys.readouterr().err == ""


async def test_a_plugin_of_ones_own_that_derives_from_it_counts(
    embedded_kafka: EmbeddedBroker, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    class OurLogging(LoggingPlugin):
        name = "our-logging"

    app = Application(
        embedded_kafka.servers, create_topics=False, entry_points=False, plugins=[OurLogging()]
    )
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("first")

    assert "without the plugin" not in capsys.readouterr().err


def test_where_no_application_starts_at_all_it_is_told_after_a_while() -> None:
    told: list[str] = []
    times = iter((0.0, PATIENCE, PATIENCE + 1))
    watch = StartWatch(lambda: None, told.append, clock=lambda: next(times))

    for _ in range(4):
        watch.check()

    assert len(told) == 1
    assert told[0].startswith("no application with the plugin 'logging' has started for 10 s")

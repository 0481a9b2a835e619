"""Each fault of the handler that this one continues, as far as no other file of tests has it."""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import sys
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable
from logging.config import dictConfig
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from kafkaesk_core import Application
from kafkaesk_logging import LogModel, PydanticKafkaeskHandler, PydanticStreamHandler
from kafkaesk_logging.envelope import SCHEMA
from kafkaesk_testing import EmbeddedBroker

Lines = Callable[..., Awaitable[list[dict[str, Any]]]]


class User(LogModel):
    user: str


async def test_a_broken_name_of_a_logger_does_not_reach_the_caller(
    app: Application, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original's defect 1: whatever a record holds."""
    handler = PydanticKafkaeskHandler(app, key=lambda record: "no bytes")
    unnamed = logging.makeLogRecord({"name": ["unhashable"], "msg": "a"})

    handler.handle(unnamed)
    handler.handle(logging.makeLogRecord({"name": "shop", "msg": "b"}))
    handler.close()

    err = capsys.readouterr().err
    assert err.count("--- Logging error ---") == 2
    assert "not bytes" in err
    assert handler.stats().enqueued == 0


def at_the_end_of_the_process(handler: logging.Handler) -> None:
    logging.shutdown([weakref.ref(handler)])


def test_a_handler_that_never_ships_says_so_at_the_end_of_the_process(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original's defects 2 and 7: no event loop ever runs."""
    handler = PydanticKafkaeskHandler("not_imported:app")
    logger.addHandler(handler)
    logging.getLogger(logger.name).propagate = False
    for _ in range(100):
        logger.info("quiet")
    logger.error("the important one")

    at_the_end_of_the_process(handler)
    logging.getLogger(logger.name).propagate = True

    first, second = capsys.readouterr().err.splitlines()
    assert "log records are lost: 101 " in first
    assert "the important one" in second


def test_lines_after_the_loop_has_closed_are_told_at_the_end_of_the_process(
    app: Application, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original's defects 5 and 7."""
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)

    async def main() -> None:
        async with app:
            logger.info("in time")

    asyncio.run(main())
    for _ in range(5):
        logger.info("late")
    at_the_end_of_the_process(handler)

    first, last = capsys.readouterr().err.splitlines()
    assert "log records are lost: 1 " in first
    assert "log records were lost: 5 " in last
    assert handler.stats().dropped == {"closed": 5}


async def test_a_line_of_a_thread_is_shipped_while_nothing_else_wakes_the_loop(
    app: Application, logger: logging.Logger
) -> None:
    """The original's defect 6, acceptance 7: also from a thread with a loop of its own."""
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)

    def log() -> bool:
        async def work() -> None:
            logger.info("from another loop")

        asyncio.run(work())
        return handler.queue.buffer.wait_until_settled(5)

    async with app:
        logger.info("the topic is known now")
        assert await handler.drain(5)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await asyncio.to_thread(log)
        took = loop.time() - started

    assert took < 0.5
    assert handler.stats().delivered == 2


async def test_flush_waits_in_a_thread_and_never_on_the_loop(
    app: Application, logger: logging.Logger
) -> None:
    """The original's defect 7."""
    handler = PydanticKafkaeskHandler(app, flush_timeout=10)
    logger.addHandler(handler)

    async with app:
        logger.info("on the loop")
        handler.flush()
        on_loop = handler.stats().delivered
        await asyncio.to_thread(handler.flush)
        in_thread = handler.stats().delivered

    assert (on_loop, in_thread) == (0, 1)


async def test_warnings_are_shipped_and_make_no_more_warnings(
    app: Application, lines: Lines
) -> None:
    """The original's defect 18."""
    handler = PydanticKafkaeskHandler(app)
    warned = logging.getLogger("py.warnings")
    warned.addHandler(handler)
    try:
        logging.captureWarnings(True)
        async with app:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("old", DeprecationWarning, stacklevel=1)
    finally:
        logging.captureWarnings(False)
        warned.removeHandler(handler)
        handler.close()

    (line,) = await lines(1)
    assert (line["logger"], line["severity"]) == ("py.warnings", "WARNING")
    assert "DeprecationWarning: old" in line["message"]


async def test_two_placeholders_and_a_model_do_not_reach_the_caller(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """The original's defect 17."""
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("%s and %s", "a", User(user="ada"))
        logger.info("%(a)s", {"a": 1})
        logger.info("done %s%%", 5, User(user="ada"))

    found = await lines(3)
    assert [line["message"] for line in found] == ["a and user='ada'", "1", "done 5%"]


def test_the_stream_handler_writes_the_fields_that_a_model_has_beyond_its_own() -> None:
    """The original's defect 19."""

    class Open(LogModel):
        model_config = ConfigDict(extra="allow")

    stream = io.StringIO()
    handler = PydanticStreamHandler(stream)
    logger = logging.Logger("shop")
    logger.addHandler(handler)

    logger.info("in", Open.model_validate({"shard": 3}))
    handler.close()

    assert stream.getvalue() == "in: shard=3\n"


async def test_where_a_line_was_logged_is_in_it_and_the_formatter_counts(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """The original's defect 20."""

    class Own(logging.Formatter):
        def to_dict(self, record: logging.LogRecord) -> dict[str, Any]:
            return {"all": record.getMessage()}

    for formatter in (None, logging.Formatter("<%(message)s>"), Own()):
        handler = PydanticKafkaeskHandler(app)
        handler.setFormatter(formatter)
        logger.addHandler(handler)

    async with app:
        await asyncio.to_thread(logger.info, "here")

    found = await lines(3)
    (plain,) = [line for line in found if line.get("message") == "here"]
    assert plain["pathname"].endswith("thread.py")
    assert plain["lineno"] > 0
    assert plain["process"] > 0
    assert plain["thread"].startswith("asyncio_")
    assert {line.get("message") for line in found} == {"here", "<here>", None}
    assert {"all": "here"} in found


@pytest.mark.parametrize(
    ("argument", "environment", "expected"),
    [
        ("shop", {"OTEL_SERVICE_NAME": "other"}, "shop"),
        (None, {"OTEL_SERVICE_NAME": "shop"}, "shop"),
        (None, {"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=my%20shop"}, "my shop"),
        (None, {}, "unknown_service"),
    ],
)
async def test_the_service_is_named_and_not_guessed_from_the_host(
    app: Application,
    logger: logging.Logger,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    environment: dict[str, str],
    expected: str,
) -> None:
    """The original's defect 21."""
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("socket.gethostname", lambda: "kafka-broker-0")
    logger.addHandler(PydanticKafkaeskHandler(app, service=argument))

    async with app:
        logger.info("a")

    (line,) = await lines(1)
    assert (line["service"], line["hostname"]) == (expected, "kafka-broker-0")


def test_ten_thousand_lines_warn_of_nothing(app: Application, logger: logging.Logger) -> None:
    """The original's defect 24, acceptance 21."""

    class Loose(BaseModel):
        _is_log_model = True
        model_config = ConfigDict(extra="allow")
        user: str

    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)
    model = Loose.model_validate({"user": "ada", "more": 1})

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for number in range(10_000):
            logger.info("%d", number, model)

    assert seen == []
    assert handler.stats().queue_size == 10_000


def test_a_handler_registers_no_schema_before_it_ships(app: Application) -> None:
    """The original's defect 26."""
    handler = PydanticKafkaeskHandler(app)

    assert SCHEMA not in app.schemas
    handler.close()


CIRCULAR = """
import logging.config

logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "kafka": {"()": "kafkaesk_logging.PydanticKafkaeskHandler", "app": "circular_shop:app"},
    },
    "loggers": {"circular_shop": {"handlers": ["kafka"], "level": "INFO"}},
})
logging.getLogger("circular_shop").info("before there is an application")

from kafkaesk_core import Application
from kafkaesk_logging import LoggingPlugin

app = Application(entry_points=False, plugins=[LoggingPlugin()], create_topics=False)
"""


async def test_the_module_of_the_application_may_itself_configure_logging(
    embedded_kafka: EmbeddedBroker,
    lines: Lines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The original's defect 26, acceptance 15."""
    embedded_kafka.create_topic("logs", partitions=1)
    (tmp_path / "circular_shop.py").write_text(CIRCULAR)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "circular_shop", None)
    monkeypatch.delitem(sys.modules, "circular_shop")

    app = importlib.import_module("circular_shop").app
    app.configure(kafka_servers=embedded_kafka.servers)
    async with app:
        logging.getLogger("circular_shop").info("while it runs")
    dictConfig({"version": 1, "loggers": {"circular_shop": {"handlers": []}}})

    assert [line["message"] for line in await lines(2)] == [
        "before there is an application",
        "while it runs",
    ]


async def test_dict_config_may_hold_the_application_itself(app: Application, lines: Lines) -> None:
    """Acceptance 15."""
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "shop": app,
        "formatters": {"short": {"format": "%(levelname)s %(message)s"}},
        "handlers": {
            "kafka": {
                "class": "kafkaesk_logging.PydanticKafkaeskHandler",
                "app": "cfg://shop",
                "stream": "logs",
                "formatter": "short",
            }
        },
        "loggers": {"shop.cfg": {"handlers": ["kafka"], "level": "INFO", "propagate": False}},
    }

    dictConfig(config)
    async with app:
        logging.getLogger("shop.cfg").info("a")
    dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"shop.cfg": {}}})

    assert [line["message"] for line in await lines(1)] == ["INFO a"]


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_an_application_of_another_thread_ships_what_is_logged_here(
    make_app: Callable[..., Application], logger: logging.Logger, lines: Lines
) -> None:
    """The original's defect 6."""
    app = make_app()
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)
    starts, may_end = threading.Event(), threading.Event()

    async def main() -> None:
        async with app:
            starts.set()
            await asyncio.to_thread(may_end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert starts.wait(20)
    in_thread(lambda: logger.info("a"))
    logger.info("b")
    handler.flush()
    delivered = handler.stats().delivered
    may_end.set()
    thread.join(20)

    assert delivered == 2

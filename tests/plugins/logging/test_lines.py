"""What a line has: fields of records, models, exceptions; and that it never is in the way."""

from __future__ import annotations

import asyncio
import decimal
import logging
import logging.handlers
import pickle
import queue
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, SecretStr, model_serializer

from kafkaesk_core import Application
from kafkaesk_logging import LogModel, PydanticKafkaeskHandler

Lines = Callable[..., Awaitable[list[dict[str, Any]]]]


class User(BaseModel):
    _is_log_model = True
    user: str


class Cart(LogModel):
    items: int
    coupon: str | None = None


async def test_a_line_has_the_fields_of_its_record_and_of_its_models(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 10."""
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.warning("placed %s", 7, User(user="ada"), Cart(items=2), extra={"shard": 3})

    (line,) = await lines(1)
    assert line["message"] == "placed 7"
    assert (line["severity"], line["level"], line["logger"]) == ("WARNING", 30, "shop.orders")
    assert (line["user"], line["items"], line["shard"]) == ("ada", 2, 3)
    assert "coupon" not in line
    assert line["function"] == "test_a_line_has_the_fields_of_its_record_and_of_its_models"
    assert line["pathname"].endswith("test_lines.py")
    assert line["timestamp"].endswith("Z")


async def test_what_cannot_be_formatted_is_reported_and_does_not_reach_the_caller(
    app: Application,
    logger: logging.Logger,
    lines: Lines,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Acceptance 1, the original's defect 1."""
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("%d", "x")
        logger.info("the next one")

    assert [line["message"] for line in await lines(1)] == ["the next one"]
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value",
    [
        decimal.Decimal("1.5"),
        object(),
        b"\xff",
        {1, 2},
        float("nan"),
        "\ud800",
        2**70,
        {b"\xff": 1},
    ],
    ids=["decimal", "object", "bytes", "set", "nan", "surrogate", "large", "key"],
)
async def test_a_value_that_json_does_not_have_is_shown_as_text(
    app: Application, logger: logging.Logger, lines: Lines, value: object
) -> None:
    """Acceptance 6, the original's defect 3."""
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("odd", extra={"value": value})
        logger.info("even")

    odd, even = await lines(2)
    assert odd["message"] == "odd"
    assert "value" in odd
    assert even["message"] == "even"


async def test_a_value_that_holds_itself_does_not_stop_the_line(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 6."""
    circle: dict[str, Any] = {}
    circle["circle"] = circle
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("round", extra={"value": circle})

    assert (await lines(1))[0]["message"] == "round"


async def test_fields_of_the_line_win_over_those_of_a_model(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 10, the original's defect 16."""

    class Rude(LogModel):
        message: str
        level: str
        timestamp: str

    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("mine", Rude(message="theirs", level="high", timestamp="never"))

    (line,) = await lines(1)
    assert line["message"] == "mine"
    assert line["level"] == 20
    assert line["extra"] == {"message": "theirs", "level": "high", "timestamp": "never"}


async def test_an_exception_is_in_its_fields_whoever_formatted_the_record_before(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 11, the original's defects 10, 11 and 12."""
    formatted: list[str] = []

    class Custom(logging.Formatter):
        def formatException(self, ei: Any) -> str:
            formatted.append(str(ei[0]))
            return "custom"

    class Later(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(dict(record.__dict__))
            Custom().format(record)

    seen: list[dict[str, Any]] = []
    logger.addHandler(PydanticKafkaeskHandler(app))
    logger.addHandler(Later())
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logger.exception("failed", stack_info=True)

    first, second = await lines(2)
    for line in (first, second):
        assert line["exception"] == "ZeroDivisionError"
        assert line["exception_message"] == "division by zero"
        assert line["trace"].startswith("Traceback")
        assert line["stack"].startswith("Stack")
    assert seen[0]["exc_text"] is None
    assert "exc_type" not in seen[0]
    assert len(formatted) == 1


async def test_records_of_any_origin_are_shipped(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 16, the original's defect 14."""
    handler = PydanticKafkaeskHandler(app)
    waiting: queue.Queue[logging.LogRecord] = queue.Queue()
    plain = logging.LogRecord("shop.orders", 20, "a.py", 1, "plain %d", (1,), None)
    sent = pickle.dumps({**plain.__dict__, "msg": "pickled %d"})

    async with app:
        handler.handle(plain)
        handler.handle(logging.makeLogRecord(pickle.loads(sent)))
        logging.handlers.QueueHandler(waiting).handle(plain)
        listener = logging.handlers.QueueListener(waiting, handler)
        listener.start()
        listener.stop()
    handler.close()

    assert [line["message"] for line in await lines(3)] == ["plain 1", "pickled 1", "plain 1"]


async def test_a_model_that_logs_while_it_is_dumped_does_not_recurse(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 17."""

    class Chatty(BaseModel):
        _is_log_model: ClassVar[bool] = True
        n: int = 1

        @model_serializer
        def dump(self) -> dict[str, int]:
            logger.info("dumping", self)
            return {"n": self.n}

    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)

    async with app:
        logger.info("once", Chatty())

    assert [line["message"] for line in await lines(1)] == ["once"]
    assert handler.stats().suppressed == 1


async def test_a_line_that_is_too_long_is_cut_and_says_so(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 18."""
    handler = PydanticKafkaeskHandler(app, max_record_bytes=10_000)
    logger.addHandler(handler)

    async with app:
        logger.info("é" * 2_000_000)

    (line,) = await lines(1)
    assert line["truncated"] is True
    assert line["message"].startswith("éé")
    assert handler.stats().dropped == {}


async def test_secrets_are_not_shipped(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    class Login(LogModel):
        name: str
        pin: SecretStr

    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("in", Login(name="ada", pin=SecretStr("1234")), extra={"Password": "1234"})
        logger.info("nested", extra={"request": {"headers": [{"Authorization": "1234"}]}})

    text = str(await lines(2))
    assert "1234" not in text
    assert "ada" in text


async def test_a_placeholder_is_not_filled_by_a_model_if_others_fill_it(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """The original's defect 17."""
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("a %s", "b", User(user="ada"))
        logger.info("model %s", User(user="ada"))
        logger.info("100 %", User(user="ada"))

    first, second, third = await lines(3)
    assert first["message"] == "a b"
    assert second["message"] == "model user='ada'"
    assert third["message"] == "100 %"
    assert {line["user"] for line in (first, second, third)} == {"ada"}


async def test_the_old_consumers_read_the_lines_with_the_old_fields(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 22."""
    logger.addHandler(PydanticKafkaeskHandler(app, legacy_fields=True, service="shop"))

    async with app:
        logger.info("old", User(user="ada"))

    (line,) = await lines(1)
    assert set(line) == {
        *("timestamp", "logger", "severity", "level", "message", "exception", "trace", "stack"),
        *("hostname", "service", "namespace", "cluster", "user"),
    }
    assert line["service"] == "shop"


async def test_the_key_is_what_the_option_says(
    app: Application, logger: logging.Logger, records: Callable[..., Awaitable[list[Any]]]
) -> None:
    logger.addHandler(PydanticKafkaeskHandler(app, key="logger"))
    logger.addHandler(PydanticKafkaeskHandler(app))
    logger.addHandler(PydanticKafkaeskHandler(app, key=lambda record: b"k"))

    async with app:
        logger.info("keyed")

    found = await records(3)
    assert {record.key for record in found} == {b"k", b"shop.orders", None}
    assert all(record.headers == () for record in found)


async def test_records_made_in_tasks_and_providers_carry_what_they_know(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    def request() -> dict[str, str]:
        return {"request": "r-1"}

    def broken() -> dict[str, str]:
        raise LookupError("no request")

    logger.addHandler(PydanticKafkaeskHandler(app, context_providers=(request, broken)))

    async def work() -> None:
        logger.info("in a task")

    async with app:
        await asyncio.create_task(work(), name="worker-1")

    (line,) = await lines(1)
    assert line["request"] == "r-1"
    assert "no request" in line["context_error"]

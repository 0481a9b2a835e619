"""The record factory, log models, the plugin's settings, and the handler for terminals."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from opentelemetry import context, trace
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kafkaesk_core import Application, ConfigurationError
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_logging import (
    LoggingPlugin,
    LogModel,
    PydanticKafkaeskHandler,
    PydanticLogRecord,
    PydanticStreamHandler,
    factory,
    install_record_factory,
    uninstall_record_factory,
)
from kafkaesk_logging.record_factory import is_log_model
from kafkaesk_testing import check_plugin


class User(BaseModel):
    _is_log_model = True
    user: str


@pytest.fixture
def installed() -> Iterator[None]:
    install_record_factory()
    yield
    uninstall_record_factory()


def made(message: object, *args: object, **keywords: Any) -> logging.LogRecord:
    return logging.getLogger("shop").makeRecord(
        "shop", 20, "a.py", 1, message, args, None, **keywords
    )


def test_importing_the_package_changes_nothing_and_imports_no_sdk() -> None:
    """Acceptance 12, the original's defect 13."""
    program = (
        "import logging, sys; before = logging.getLogRecordFactory(); import kafkaesk_logging; "
        "assert logging.getLogRecordFactory() is before; assert not logging.getLogger().handlers"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_the_factory_is_in_place_while_somebody_needs_it() -> None:
    before = logging.getLogRecordFactory()

    install_record_factory()
    install_record_factory()
    uninstall_record_factory()
    during = made("a", User(user="ada"))
    uninstall_record_factory()

    assert isinstance(during, PydanticLogRecord)
    assert list(during.pydantic_data) == [User(user="ada")]
    assert logging.getLogRecordFactory() is before


@pytest.mark.parametrize("is_ours_first", [True, False])
def test_factories_of_others_keep_their_fields(is_ours_first: bool) -> None:
    """Acceptance 12."""
    before = logging.getLogRecordFactory()

    def put_theirs() -> None:
        around = logging.getLogRecordFactory()

        def theirs(*args: Any, **keywords: Any) -> logging.LogRecord:
            record: logging.LogRecord = around(*args, **keywords)
            record.__dict__["otelTraceID"] = "abc"
            return record

        logging.setLogRecordFactory(theirs)

    steps = [install_record_factory, put_theirs]
    for step in steps if is_ours_first else reversed(steps):
        step()
    try:
        record = made("a", User(user="ada"))
        uninstall_record_factory()
        after = made("a %s", User(user="ada"))
    finally:
        logging.setLogRecordFactory(before)

    assert record.__dict__["otelTraceID"] == after.__dict__["otelTraceID"] == "abc"
    assert len(record.__dict__["pydantic_data"]) == 1
    assert "pydantic_data" not in after.__dict__


@pytest.mark.parametrize("args", [None, (), ({"a": 1},), ({},)])
def test_the_factory_takes_what_log_records_take(args: Any) -> None:
    """The original's defect 15."""
    record = factory("shop", 20, "a.py", 1, "text", args, None, "f", "stack", unknown=1)

    assert record.stack_text == "stack"
    assert record.exc_type is None


def test_a_log_model_says_so_by_its_class() -> None:
    class Plain(BaseModel):
        user: str

    class Marked(BaseModel):
        _is_log_model: ClassVar[bool] = True

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    untrusted = Open.model_validate_json('{"_is_log_model": true}')

    assert is_log_model(User(user="a"))
    assert is_log_model(User.model_construct(user="a"))
    assert is_log_model(User(user="a").model_copy())
    assert is_log_model(Marked())
    assert is_log_model(LogModel())
    assert not is_log_model(Plain(user="a"))
    assert not is_log_model(untrusted)
    assert not is_log_model(User)
    assert not is_log_model(User.__new__(User))


def written(handler_arguments: dict[str, Any], *args: Any, **keywords: Any) -> str:
    stream = io.StringIO()
    handler = PydanticStreamHandler(stream, **handler_arguments)
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    try:
        logger.info(*args, **keywords)
    finally:
        handler.close()
    return stream.getvalue()


def test_the_stream_handler_writes_all_models_before_the_traceback() -> None:
    """The original's defect 19."""

    class Login(LogModel):
        name: str = Field(alias="login-name")
        pin: SecretStr
        internal: str = Field("x", exclude=True)
        silent: str = Field("x", repr=False)

    login = Login.model_validate({"login-name": "ada", "pin": "1234"})

    text = written({}, "in", User(user="ada"), login)

    assert text == "in: user=ada, name=ada, pin=**********\n"
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        lines = written({}, "failed %s", 1, User(user="ada"), exc_info=True).splitlines()
    assert lines[0] == "failed 1: user=ada"
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_the_stream_handler_writes_a_field_that_begins_in_time_whole() -> None:
    assert written({"max_length": 5}, "in", User(user="a" * 50), User(user="b")) == (
        f"in: user={'a' * 50}, ...\n"
    )


def test_an_unknown_option_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'queue_size'"):
        PydanticKafkaeskHandler(queue_sise=1)
    with pytest.raises(ConfigurationError, match="queue_size"):
        PydanticKafkaeskHandler(queue_size=0)
    with pytest.raises(ConfigurationError, match="module:attribute"):
        PydanticKafkaeskHandler("shop")


def test_the_environment_sets_the_plugin_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "STREAM": "logs.shop",
        "LEVEL": "warning",
        "LOGGERS": "shop,billing",
        "DROP_POLICY": "drop_newest",
        "QUEUE_SIZE": "5",
    }.items():
        monkeypatch.setenv(f"KAFKAESK_LOGGING_{name}", value)
    plugins = Plugins()

    plugins.load_entry_points(allow=["logging"])

    (plugin,) = [p for p in plugins._manager.get_plugins() if isinstance(p, LoggingPlugin)]
    settings = plugin._settings
    assert (settings.stream, settings.level, settings.queue_size) == ("logs.shop", 30, 5)
    assert settings.loggers == ("shop", "billing")
    assert settings.drop_policy == "drop_newest"


def test_the_plugin_conforms() -> None:
    check_plugin(LoggingPlugin())


async def test_a_line_has_the_span_it_was_logged_in(
    app: Application, logger: logging.Logger, lines: Callable[..., Any]
) -> None:
    """Acceptance 13."""
    logger.addHandler(PydanticKafkaeskHandler(app))
    span = trace.NonRecordingSpan(
        trace.SpanContext(
            trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)
        )
    )

    async with app:
        token = context.attach(trace.set_span_in_context(span))
        logger.info("inside")
        context.detach(token)
        logger.info("outside")

    inside, outside = await lines(2)
    assert inside["trace_id"] == "abc".zfill(32)
    assert inside["span_id"] == "def".zfill(16)
    assert inside["trace_flags"] == "01"
    assert "trace_id" not in outside

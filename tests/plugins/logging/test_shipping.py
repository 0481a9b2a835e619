"""From any thread, before, while and after the application runs: what arrives and what is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from logging.config import dictConfig
from types import ModuleType
from typing import Any

import pytest

from kafkaesk_core import Application, NotRunningError
from kafkaesk_logging import KafkaeskQueue, PydanticKafkaeskHandler, PydanticLogModel
from kafkaesk_logging.buffer import Buffer
from kafkaesk_logging.settings import QueueOptions
from kafkaesk_retry import RetryPlugin, RetrySettings
from kafkaesk_testing import EmbeddedBroker, eventually

Lines = Callable[..., Awaitable[list[dict[str, Any]]]]
MakeApp = Callable[..., Application]


def balance(handler: PydanticKafkaeskHandler) -> None:
    stats = handler.stats()
    kept = stats.delivered + stats.queue_size + stats.in_flight
    assert stats.enqueued == kept + sum(stats.dropped.values()), stats


async def test_lines_from_before_the_start_arrive_in_order_with_their_time(
    app: Application,
    logger: logging.Logger,
    lines: Lines,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Acceptance 2, the original's defects 2 and 18."""
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)
    created: list[float] = []

    def note(record: logging.LogRecord) -> bool:
        created.append(record.created)
        return True

    handler.addFilter(note)
    for number in range(100):
        logger.info("%d", number)

    async with app:
        pass

    found = await lines(100)
    assert [line["message"] for line in found] == [str(number) for number in range(100)]
    for line, second in zip(found, created, strict=True):
        assert abs(datetime.fromisoformat(line["timestamp"]).timestamp() - second) < 0.001
    assert capsys.readouterr().err == ""


async def test_a_line_about_shipping_is_not_shipped(
    make_app: MakeApp, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance 3, the original's defect 4."""
    app = make_app(stream="logs", level="DEBUG")
    mine = logging.getLogger("shop.orders")
    root = logging.getLogger()
    before = (root.level, list(root.handlers))

    async with app:
        (handler,) = [h for h in root.handlers if isinstance(h, PydanticKafkaeskHandler)]
        mine.debug("the one")
        assert await handler.drain(5)
        mine.debug("the next")  # an echo would have been queued before it
        assert await handler.drain(5)
        stats = handler.stats()

    found = [line for line in await lines(2) if line["logger"] == "shop.orders"]
    assert [line["message"] for line in found] == ["the one", "the next"]
    assert stats.suppressed > 0
    assert stats.queue_size == 0
    assert stats.enqueued < 50
    assert (root.level, root.handlers) == before


async def test_threads_log_while_the_loop_is_idle(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 7, the original's defect 6."""
    asyncio.get_running_loop().set_debug(True)
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)

    def log(thread: int) -> None:
        for number in range(250):
            logger.info("%d %d", thread, number)

    async with app:
        threads = [threading.Thread(target=log, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert await handler.drain(10)

    got: dict[str, list[int]] = {}
    for line in await lines(2000):
        thread_number, number = line["message"].split()
        got.setdefault(thread_number, []).append(int(number))
    assert len(got) == 8
    assert all(numbers == list(range(250)) for numbers in got.values())


async def test_all_lines_are_there_when_the_application_has_ended(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 8, the original's defect 7."""
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        for number in range(1000):
            logger.info("%d", number)

    assert len(await lines(1000)) == 1000


async def test_the_end_does_not_wait_for_a_broker_that_is_gone(
    app: Application,
    logger: logging.Logger,
    embedded_kafka: EmbeddedBroker,
    capsys: pytest.CaptureFixture[str],
    no_other_handlers: Callable[[], None],
) -> None:
    """Acceptance 8."""
    no_other_handlers()
    handler = PydanticKafkaeskHandler(app, drain_timeout=0.5)
    logger.addHandler(handler)
    app.configure(shutdown_timeout=25)

    async with app:
        logger.info("first")
        assert await handler.drain(5)
        embedded_kafka.set_down()
        for number in range(999):
            logger.info("%d", number)
        logger.error("the important one")
        started = time.monotonic()
        await handler.queue.stop()
        took = time.monotonic() - started
        embedded_kafka.set_up()

    assert took < 1.5
    stats = handler.stats()
    assert stats.delivered == 1
    assert sum(stats.dropped.values()) == 1000
    balance(handler)
    told = capsys.readouterr().err
    assert "log records are lost: 1000" in told
    assert "the important one" in told


async def test_after_the_end_lines_are_counted_and_shown_and_nothing_is_started(
    app: Application,
    logger: logging.Logger,
    lines: Lines,
    capsys: pytest.CaptureFixture[str],
    no_other_handlers: Callable[[], None],
) -> None:
    """Acceptance 9, the original's defect 5."""
    no_other_handlers()
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)

    async with app:
        logger.info("first run")
    logger.info("in between")
    logger.error("in between, important")

    assert app.status().state == "stopped"
    assert handler.stats().dropped == {"closed": 2}
    err = capsys.readouterr().err
    assert "in between, important" in err
    assert "INFO" not in err

    async with app:
        logger.info("second run")
    runs = [line["message"] for line in await lines(3)]
    assert runs == ["first run", "second run", "dropped 2 log records"]


@pytest.mark.parametrize(
    ("policy", "kept"), [("drop_oldest", ["3", "4", "5"]), ("drop_newest", ["0", "1", "2"])]
)
async def test_a_full_queue_drops_what_the_policy_says(
    app: Application,
    logger: logging.Logger,
    lines: Lines,
    capsys: pytest.CaptureFixture[str],
    policy: str,
    kept: list[str],
) -> None:
    """The original's defect 25."""
    handler = PydanticKafkaeskHandler(app, queue_size=3, drop_policy=policy)
    logger.addHandler(handler)
    for number in range(6):
        logger.info("%d", number)

    async with app:
        await handler.drain(5)

    found = await lines(3)
    assert [line["message"] for line in found[:3]] == kept
    assert handler.stats().dropped == {"queue_full": 3}
    balance(handler)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "log records are lost: 1 " in told[0]
    assert "log records were lost: 3 " in told[1]


async def test_the_queue_is_bounded_in_bytes(app: Application, logger: logging.Logger) -> None:
    """The original's defect 25."""
    handler = PydanticKafkaeskHandler(app, max_bytes=5000, fallback=None)
    logger.addHandler(handler)

    for _ in range(100):
        logger.info("x" * 500)

    stats = handler.stats()
    assert stats.queue_bytes <= 5000
    assert stats.dropped["bytes_full"] == 100 - stats.queue_size
    assert stats.queue_size > 0


async def test_a_thread_waits_for_room_but_never_the_event_loop() -> None:
    dropped: list[tuple[str, int]] = []
    options = QueueOptions(queue_size=1, drop_policy="block", block_timeout=5)
    buffer = Buffer(options, lambda reason, count: dropped.append((reason, count)))
    buffer.loop_thread = threading.get_ident()
    buffer.put((b"first", "logs", None, 0))

    waiting = asyncio.create_task(asyncio.to_thread(buffer.put, (b"thread", "logs", None, 0)))
    await eventually(lambda: buffer.stats().enqueued == 2)
    started = time.monotonic()
    buffer.put((b"loop", "logs", None, 0))
    took = time.monotonic() - started
    taken = [*buffer.take(1)]
    await waiting

    assert took < 1
    assert dropped == [("queue_full", 1)]
    assert [line for line, *_ in [*taken, *buffer.take(1)]] == [b"first", b"thread"]


async def test_a_thread_that_gets_no_room_in_time_drops_its_line() -> None:
    dropped: list[tuple[str, int]] = []
    options = QueueOptions(queue_size=1, drop_policy="block", block_timeout=0.05)
    buffer = Buffer(options, lambda reason, count: dropped.append((reason, count)))
    buffer.loop_thread = threading.get_ident()
    buffer.put((b"first", "logs", None, 0))

    started = time.monotonic()
    await asyncio.to_thread(buffer.put, (b"thread", "logs", None, 0))

    assert time.monotonic() - started >= 0.05
    assert dropped == [("queue_full", 1)]


async def test_a_thread_that_waits_for_room_holds_up_no_other_thread() -> None:
    """A handler's lock would: it is held while a record is emitted."""
    options: dict[str, Any] = {"queue_size": 1, "drop_policy": "block", "block_timeout": 5}
    handler = PydanticKafkaeskHandler(**options, fallback=None)
    buffer = handler.queue.buffer
    buffer.loop_thread = threading.get_ident()
    handler.handle(logging.makeLogRecord({"msg": "first"}))

    record = logging.makeLogRecord({"msg": "waits"})
    waiting = asyncio.create_task(asyncio.to_thread(handler.handle, record))
    await eventually(lambda: buffer.stats().enqueued == 2)
    started = time.monotonic()
    handler.handle(logging.makeLogRecord({"msg": "no room, and no wait"}))
    took = time.monotonic() - started
    taken = [*buffer.take(1)]
    await waiting
    handler.close()

    assert took < 1
    assert len(taken) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters replace records from 3.12 on")
def test_a_filter_may_put_another_record_in_its_place() -> None:
    handler = PydanticKafkaeskHandler(fallback=None)
    replacement = logging.makeLogRecord({"msg": "replaced"})

    def replace_secrets(record: logging.LogRecord) -> Any:  # another record, from 3.12 on
        return replacement if record.msg == "secret" else False

    handler.addFilter(replace_secrets)

    handled = [handler.handle(logging.makeLogRecord({"msg": msg})) for msg in ("secret", "x")]
    ((line, *_),) = handler.queue.buffer.take(10)
    handler.close()

    assert [bool(each) for each in handled] == [True, False]
    assert b"replaced" in line


async def test_readers_of_the_stream_are_told_of_the_gap(
    app: Application,
    logger: logging.Logger,
    lines: Lines,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Acceptance 5."""
    handler = PydanticKafkaeskHandler(app, queue_size=10, report_interval=0.2)
    logger.addHandler(handler)
    for number in range(50):
        logger.info("%d", number)

    async with app:
        found = await lines(11)
        await eventually(lambda: handler.stats().in_flight == 0)
        logger.info("well")
        await handler.drain(5)
        written: list[str] = []

        def is_shipped_again() -> bool:
            written.append(capsys.readouterr().err)
            return "shipped again" in "".join(written)

        await eventually(is_shipped_again)
        err = "".join(written)

    gap = found[-1]
    assert gap["message"] == "dropped 40 log records"
    assert gap["dropped"] == {"queue_full": 40}
    assert gap["logger"] == "kafkaesk.logging"
    assert "log records are lost: " in err


async def test_losses_are_told_seldom(
    app: Application, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Acceptance 4."""
    handler = PydanticKafkaeskHandler(app, queue_size=1)
    logger.addHandler(handler)
    slowest = 0.0

    for number in range(5000):
        started = time.perf_counter()
        logger.info("%d", number)
        slowest = max(slowest, time.perf_counter() - started)

    assert handler.stats().dropped == {"queue_full": 4999}
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert slowest < 0.1


def in_a_fork(log: Callable[[], None], handler: PydanticKafkaeskHandler) -> bytes:
    """What a child has in its queue after it has logged."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        try:
            log()
            os.write(write, repr((handler.stats().enqueued, len(handler.queue.buffer))).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    told = os.read(read, 100)
    os.close(read)
    os.close(write)
    return told


async def test_a_forked_process_leaves_the_queue_to_its_parent(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """Acceptance 19, the original's defect 26."""
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)
    for number in range(100):
        logger.info("%d", number)

    told = in_a_fork(lambda: logger.info("the child's"), handler)

    assert told == b"(1, 1)"
    async with app:
        pass
    assert len(await lines(100)) == 100


async def test_logging_from_del_and_from_signal_handlers_does_not_lock_up(
    app: Application, logger: logging.Logger
) -> None:
    """Acceptance 20."""
    logger.addHandler(PydanticKafkaeskHandler(app, queue_size=100, fallback=None))

    class Dying:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            logger.info("gone")

    previous = signal.signal(signal.SIGALRM, lambda *_: logger.info("a signal"))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    threshold = gc.get_threshold()
    gc.set_threshold(10)
    try:
        for number in range(3000):
            Dying()
            logger.info("%d", number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        gc.set_threshold(*threshold)
        gc.collect()


async def test_dict_config_takes_an_import_path_and_may_be_repeated_while_it_runs(
    app: Application, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance 15, the original's defect 26."""
    module = ModuleType("shop_for_logging")
    module.__dict__["app"] = app
    monkeypatch.setitem(sys.modules, "shop_for_logging", module)
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "kafka": {
                "()": "kafkaesk_logging.PydanticKafkaeskHandler",
                "app": "shop_for_logging:app",
                "level": "INFO",
                "drop_policy": "drop_newest",
            }
        },
        "loggers": {"shop.config": {"handlers": ["kafka"], "level": "DEBUG", "propagate": False}},
    }
    shop = logging.getLogger("shop.config")

    dictConfig(config)
    async with app:
        shop.debug("too low")
        shop.info("first")
        started = time.monotonic()
        dictConfig(config)
        took = time.monotonic() - started
        shop.info("second")
    dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"shop.config": {}}})

    assert took < 0.5
    assert sorted(line["message"] for line in await lines(2)) == ["first", "second"]


async def test_a_clone_shares_the_queue_and_may_be_closed_alone(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    """The original's defect 22."""
    handler = PydanticKafkaeskHandler(app, service="shop")
    clone = handler.clone()
    logger.addHandler(handler)

    async with app:
        clone.close()
        logger.info("still there")

    assert clone.queue is handler.queue
    assert [line["service"] for line in await lines(1)] == ["shop"]


async def test_a_failing_publisher_loses_nothing_and_does_not_end_the_worker(
    app: Application, logger: logging.Logger, lines: Lines, embedded_kafka: EmbeddedBroker
) -> None:
    """Acceptance 6, the original's defects 3 and 8."""
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)

    async with app:
        logger.info("before")
        assert await handler.drain(5)
        embedded_kafka.set_down()
        for number in range(20):
            logger.info("%d", number)
        embedded_kafka.set_up()
        assert await handler.drain(15)

    assert len(await lines(21)) == 21
    assert handler.stats().delivered == 21


async def test_lines_of_one_handler_carry_its_record_and_not_that_of_others(
    make_app: MakeApp, logger: logging.Logger, lines: Lines, embedded_kafka: EmbeddedBroker
) -> None:
    """Acceptance 14, the original's defect 9; 2 and 3 of the plugins together."""
    embedded_kafka.create_topic("orders", partitions=1)
    app = make_app()
    logger.addHandler(PydanticKafkaeskHandler(app))

    @app.subscribe("orders", "billing", concurrency=10)
    async def handle(data: bytes) -> None:
        logger.info("%s", json.loads(data)["data"]["n"])

    async with app:
        for number in range(3):
            value = b'{"schema":"Order:1","data":{"n":%d}}' % number
            await app.raw_publish("orders", value, headers=[("x-tenant", b"a")])
        await app.consume_for(3, seconds=20)
        logger.info("outside")

    found = {line["message"]: line for line in await lines(4)}
    for number in range(3):
        line = found[str(number)]
        assert (line["topic"], line["partition"], line["offset"]) == ("orders", 0, number)
        assert (line["group"], line["schema"]) == ("billing", "Order:1")
    assert "topic" not in found["outside"]


async def test_a_line_carries_the_attempt_and_the_place_of_the_dead_letter(
    make_app: MakeApp, lines: Lines, embedded_kafka: EmbeddedBroker
) -> None:
    for topic in ("orders", "dlq.billing.orders", "retry.billing.0"):
        embedded_kafka.create_topic(topic, partitions=1)
    app = make_app(plugins=[RetryPlugin(RetrySettings(attempts=2, first=0.0))])
    retry_logger = logging.getLogger("kafkaesk.retry")
    handler = PydanticKafkaeskHandler(app)
    retry_logger.addHandler(handler)

    @app.subscribe("orders", "billing")
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    try:
        async with app:
            await app.raw_publish("orders", b"x")
            await app.consume_for(1, seconds=20)
    finally:
        retry_logger.removeHandler(handler)

    (line,) = [one for one in await lines(1) if one["level"] == logging.ERROR]
    assert (line["attempt"], line["dead_letter"]) == (2, "dlq.billing.orders/0/0")


async def test_handling_lines_of_a_stream_ships_none_to_it(
    app: Application, logger: logging.Logger, lines: Lines
) -> None:
    handler = PydanticKafkaeskHandler(app)
    logger.addHandler(handler)

    @app.subscribe("logs", "readers")
    async def read(data: PydanticLogModel) -> None:
        logger.info("read %r", data)

    async with app:
        logger.info("one")
        await app.consume_for(1, seconds=20)

    assert [line["message"] for line in await lines(1)] == ["one"]
    assert handler.stats().suppressed == 1


async def test_no_plugin_sees_a_line_on_its_way(
    make_app: MakeApp, logger: logging.Logger, lines: Lines, embedded_kafka: EmbeddedBroker
) -> None:
    """Acceptance 13."""
    from kafkaesk_core import OutgoingMessage, hookimpl

    seen: list[str] = []

    class Watching:
        @hookimpl
        async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Any:
            seen.append(message.stream)
            return await call_next(message)

        @hookimpl
        def published(self, message: OutgoingMessage) -> None:
            seen.append(message.stream)

    embedded_kafka.create_topic("events", partitions=1)
    app = make_app(plugins=(Watching(),))
    logger.addHandler(PydanticKafkaeskHandler(app))

    async with app:
        logger.info("unseen")
        await app.raw_publish("events", b"{}")

    assert len(await lines(1)) == 1
    assert seen == ["events", "events"]


async def test_an_application_may_start_and_stop_many_times(
    make_app: MakeApp, lines: Lines
) -> None:
    """6 of the plugins together."""
    logger = logging.getLogger("shop.starts")
    app = make_app(stream="logs", loggers=("shop.starts",), level="INFO")
    handlers = list(logger.handlers)
    made_by, tasks = logging.getLogRecordFactory(), asyncio.all_tasks()

    for number in range(5):
        async with app:
            logger.info("%d", number)

    assert len([line for line in await lines(5) if line["logger"] == "shop.starts"]) == 5
    assert logger.handlers == handlers
    assert logging.getLogRecordFactory() is made_by
    assert asyncio.all_tasks() == tasks
    assert [info.name for info in app.plugins.list()] == ["logging"]


async def test_a_queue_is_a_part_of_its_own(app: Application, lines: Lines) -> None:
    lines_queue = KafkaeskQueue(app, 5)

    assert not lines_queue.running
    async with app:
        assert lines_queue.running
        lines_queue.put_nowait("logs", {"message": "by hand"})
        assert await lines_queue.drain(5)
        lines_queue.close()

    assert await lines(1) == [{"message": "by hand"}]


async def test_an_internal_publish_does_not_start_an_application(app: Application) -> None:
    with pytest.raises(NotRunningError):
        await app.publish_internal("logs", b"{}", schema="PydanticLogModel:1")

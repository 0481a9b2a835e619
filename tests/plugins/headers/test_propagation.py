"""What is inherited, what is not, and what stays as it was (3.6.1 to 3.6.19)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application, IncomingMessage, Retry, Subscriber, hookimpl
from kafkaesk_headers import (
    HeaderSettings,
    HeadersPlugin,
    current_record,
    drop_header,
    inherit_from,
    inherited_headers,
    no_propagation,
    propagating,
)
from kafkaesk_retry import RetryPlugin, RetrySettings
from kafkaesk_retry.letter import OWN_HEADERS, SPRING_HEADERS
from kafkaesk_testing import check_plugin, consuming, eventually

# The fixture `start` gives a service of this directory's conftest.
Start = Callable[..., Awaitable[Any]]
Headers = tuple[tuple[str, bytes | None], ...]

A, B = ("x-a", b"1"), ("x-b", b"2")


def plugin(**settings: Any) -> HeadersPlugin:
    return HeadersPlugin(HeaderSettings(**settings))


async def answer(data: bytes, subscriber: Subscriber) -> None:
    await subscriber.publish("out", {"for": data.decode()})


def of_context(app_of: list[Application]) -> Callable[..., Awaitable[None]]:
    """A handler that publishes through the application."""

    async def handle(data: bytes) -> None:
        await app_of[0].publish("out", {"for": data.decode()})

    return handle


@pytest.mark.parametrize("scope", ["subscriber", "context"])
def test_the_plugin_conforms(scope: str) -> None:
    check_plugin(plugin(scope=scope, max_hops=9, correlation=True))


# --- what is inherited


async def test_a_publish_of_the_subscriber_inherits_the_headers_in_order(start: Start) -> None:
    """3.6.1"""
    service = await start(answer, plugins=[plugin()])

    await service.receive(A, B)

    assert await service.sent() == [(A, B)]


async def test_what_the_caller_sets_wins(start: Start) -> None:
    """3.6.2"""

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        await subscriber.publish("out", {}, headers=[("x-a", b"9")])

    service = await start(handle, plugins=[plugin()])

    await service.receive(A, B)

    assert await service.sent() == [(B, ("x-a", b"9"))]


async def test_repeated_names_are_inherited_in_order(start: Start) -> None:
    """3.6.3"""
    service = await start(answer, plugins=[plugin()])

    await service.receive(("x", b"1"), A, ("x", b"2"))

    assert await service.sent() == [(("x", b"1"), A, ("x", b"2"))]


async def test_values_are_never_decoded(start: Start) -> None:
    """3.6.4: binary and null values, as they are."""
    service = await start(answer, plugins=[plugin()])
    odd: Headers = (("binary", b"\xff\x00"), ("null", None), ("empty", b""), ("ünïcode", b"\xe9"))

    await service.receive(*odd)

    assert await service.sent() == [odd]


async def test_neither_the_record_nor_the_callers_list_changes(start: Start) -> None:
    """3.6.5"""
    own: list[tuple[str, bytes | None]] = [("own", b"1")]
    seen: list[Headers] = []

    async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
        for _ in range(1000):
            await subscriber.publish("out", {}, headers=own)
        seen.append(tuple(record.headers))

    service = await start(handle, plugins=[plugin()])
    await service.receive(A, B)
    sent = await service.sent(1000)

    assert own == [("own", b"1")]
    assert seen == [(A, B)]
    assert set(sent) == {(A, B, ("own", b"1"))}


async def test_what_a_later_layer_adds_to_one_message_is_not_in_the_next(start: Start) -> None:
    """3.6.5: what is inherited is chosen once per record, and each message has its own list."""

    class Adds:
        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any:
            if message.origins:
                message.headers.append(("added", b"1"))
            return await call_next(message)

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        for _ in range(2):
            await subscriber.publish("out", {})

    service = await start(handle, plugins=[plugin(), Adds()])
    await service.receive(A)

    assert await service.sent(2) == [(A, ("added", b"1"))] * 2


async def test_an_explicit_null_is_sent_and_a_dropped_name_is_not(start: Start) -> None:
    """3.4, 2: null is a value; drop_header leaves the name out."""

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        await subscriber.publish(
            "out", {}, headers=[("x-a", None), drop_header("x-b"), drop_header("none")]
        )

    service = await start(handle, plugins=[plugin()])
    await service.receive(A, B, ("x-c", b"3"))
    await service.app.publish("out", {}, headers=[drop_header("x-b")])

    assert sorted(await service.sent(2)) == [(), (("x-c", b"3"), ("x-a", None))]


@pytest.mark.parametrize("scope", ["subscriber", "context"])
async def test_concurrent_handlers_are_not_mixed_up(start: Start, scope: str) -> None:
    """3.6.6"""

    async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
        mine = record.value.decode()
        publish = subscriber.publish if scope == "subscriber" else service.app.publish
        for _ in range(2):
            await asyncio.sleep(random.random() / 1000)  # shuffles them
            await publish("out", {"for": mine})

    service = await start(
        handle, plugins=[plugin(scope=scope)], concurrency=50, ordering="unordered"
    )
    for number in range(1000):
        await service.receive(("tenant", b"%d" % number), value=b"%d" % number)
    await service.sent(2000)

    mixed = [r for r in service.out if f'"{r.headers[0][1].decode()}"' not in r.value.decode()]
    assert mixed == []
    assert {len(record.headers) for record in service.out} == {1}


async def test_tasks_and_threads_of_a_handler_inherit_and_others_do_not(start: Start) -> None:
    """3.6.7"""
    handling, told = asyncio.Event(), asyncio.Event()

    async def publish(who: str) -> None:
        await service.app.publish("out", {}, headers=[("who", who.encode())])

    async def handle(data: bytes) -> None:
        loop = asyncio.get_running_loop()
        handling.set()
        await told.wait()
        await asyncio.gather(publish("gather"), publish("gather"))
        await asyncio.create_task(publish("task"))
        await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(publish("thread"), loop).result(10)
        )

    async def unrelated() -> None:
        await handling.wait()
        await publish("unrelated")
        told.set()

    service = await start(handle, plugins=[plugin(scope="context")])
    other = asyncio.create_task(unrelated())
    await service.receive(A)
    sent = await service.sent(5)
    await other

    found = sorted((dict(headers)["who"], "x-a" in dict(headers)) for headers in sent)
    assert found == [
        (b"gather", True),
        (b"gather", True),
        (b"task", True),
        (b"thread", True),
        (b"unrelated", False),
    ]


@pytest.mark.parametrize("scope", ["subscriber", "context"])
async def test_a_publish_outside_of_handlers_inherits_nothing(start: Start, scope: str) -> None:
    """3.6.8"""
    service = await start(answer, plugins=[plugin(scope=scope)])

    await service.app.publish("out", {}, headers=[B])

    assert await service.sent() == [(B,)]


@pytest.mark.d34
async def test_the_application_inherits_only_where_the_scope_is_the_context(start: Start) -> None:
    """`app.publish` in a handler."""
    apps: list[Application] = []
    service = await start(of_context(apps), plugins=[plugin(scope="subscriber")])
    other = await start(of_context(apps_of_other := []), plugins=[plugin(scope="context")])
    apps.append(service.app)
    apps_of_other.append(other.app)

    await service.receive(A)
    await other.receive(A)

    assert (await service.sent(), await other.sent()) == ([()], [(A,)])


@pytest.mark.d34
async def test_nothing_is_wrapped_around_handlers_but_with_the_scope_context() -> None:
    """The default costs consuming nothing."""
    quiet, wrapping = (Application(plugins=[plugin(scope=s)]) for s in ("subscriber", "context"))

    assert quiet.plugins.layers("wrap_consume") == []
    assert quiet.plugins.layers("wrap_consume_batch") == []
    assert wrapping.plugins.layers("wrap_consume") == ["headers"]
    assert wrapping.plugins.layers("wrap_consume_batch") == ["headers"]


@pytest.mark.parametrize("failure", ["exception", "timeout"])
async def test_nothing_is_left_for_the_next_record(start: Start, failure: str) -> None:
    """3.6.9"""

    async def handle(record: ConsumerRecord) -> None:
        if record.value == b"bad":
            await service.app.publish("out", {"first": True})
            if failure == "exception":
                raise ValueError("no")
            await asyncio.Event().wait()
        await service.app.publish("out", {})

    service = await start(
        handle, plugins=[plugin(scope="context")], on_error="skip", timeout_seconds=0.2
    )
    await service.receive(A, value=b"bad")
    await service.receive(B, value=b"good")

    assert await service.sent(2) == [(A,), (B,)]


async def test_the_producer_that_a_handler_starts_keeps_nothing_of_it(start: Start) -> None:
    """3.6.10"""
    broker = Application(["embedded://?topics=in,out&partitions=1"], entry_points=False)
    async with broker:
        app = Application(
            list(broker.servers),
            kafka_settings={"heartbeat_interval_ms": 500, "session_timeout_ms": 3000},
            entry_points=False,
            create_topics=False,
            plugins=[plugin(scope="context")],
        )
        out: list[ConsumerRecord] = []

        @app.subscribe("in", "handlers")
        async def handle(data: bytes) -> None:
            await app.raw_publish("out", data)

        @app.subscribe("out", "collectors")
        async def collect(record: ConsumerRecord) -> None:
            out.append(record)

        async with consuming(app):
            await broker.raw_publish("in", b"first", headers=[A])
            await eventually(lambda: len(out) == 1, within=20)
            await app.raw_publish("out", b"later")
            await asyncio.create_task(_published(app))
            await eventually(lambda: len(out) == 3, within=20)

    assert [record.headers for record in out] == [(A,), (), ()]


async def _published(app: Application) -> None:
    await app.raw_publish("out", b"from a task")


# --- what is not


async def test_a_trace_passes_where_no_plugin_owns_it(start: Start) -> None:
    """3.6.12"""
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    service = await start(answer, plugins=[plugin()])

    await service.receive(trace, A)

    assert await service.sent() == [(trace, A)]


class Owner:
    """A plugin that owns a header."""

    claimed_headers = frozenset({"traceparent"})


@pytest.mark.d35
async def test_what_another_plugin_owns_is_not_inherited(start: Start) -> None:
    service = await start(answer, plugins=[plugin(include=("*",), exclude=()), Owner()])

    await service.receive(("traceparent", b"stale"), A)

    assert await service.sent() == [(A,)]


DESCRIBING: Headers = (
    ("__dlq.errors.exception.fqcn", b"ValueError"),
    ("kafkaesk-dlq-error", b"ValueError"),
    ("ce_id", b"1"),
    ("ce_source", b"/a"),
    ("content-type", b"text/plain"),
    ("kafka_dlt-original-topic", b"t"),
    ("retry_topic-attempts", b"3"),
    ("kafkaesk-hops", b"2"),
    ("causation-id", b"x"),
)


async def test_what_describes_the_other_message_is_not_inherited(start: Start) -> None:
    """3.6.13"""
    service = await start(answer, plugins=[plugin()])

    await service.receive(*DESCRIBING, A)

    assert await service.sent() == [(A,)]


async def test_what_dead_letters_and_replays_have_is_not_inherited(start: Start) -> None:
    """Neither with the patterns of the plugin, nor with all included beside kafkaesk-retry."""
    own = [(name, b"1") for name in sorted(OWN_HEADERS | SPRING_HEADERS)]
    retry = RetryPlugin(RetrySettings(style="spring"))
    alone = await start(answer, plugins=[plugin()])
    beside = await start(answer, plugins=[plugin(include=("*",), exclude=()), retry])

    await alone.receive(*own, A)
    await beside.receive(*own, A)

    assert await alone.sent() == await beside.sent() == [(A,)]


async def test_what_is_included_passes_if_it_is_not_excluded(start: Start) -> None:
    """3.6.13: the patterns are fnmatch's, exclude beats include, case matters."""
    service = await start(answer, plugins=[plugin(include=("ce_source",), exclude=())])
    other = await start(answer, plugins=[plugin(include=("x-*", "tenant"), exclude=("x-secret*",))])

    await service.receive(*DESCRIBING, A)
    await other.receive(A, ("X-B", b"2"), ("x-secret-key", b"3"), ("tenant", b"t"))

    assert await service.sent() == [(("ce_source", b"/a"),)]
    assert await other.sent() == [(A, ("tenant", b"t"))]


async def test_propagation_is_switched_off_for_a_block_or_a_message(start: Start) -> None:
    """3.6.14"""

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        async def publish(who: bytes, **options: Any) -> None:
            await subscriber.publish("out", {}, headers=[("who", who)], **options)

        with no_propagation():
            await publish(b"block")
            await asyncio.create_task(publish(b"task of the block"))
            task = asyncio.create_task(publish(b"task that outlives the block"))
        await task
        await publish(b"message", meta={"propagate": False})
        await publish(b"after")

    service = await start(handle, plugins=[plugin()])
    await service.receive(A)
    sent = await service.sent(5)

    assert [dict(headers)["who"] for headers in sent if A in headers] == [b"after"]


async def test_too_many_bytes_are_dropped_and_told_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """3.6.15"""
    headers = plugin()

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        await subscriber.publish("out", {}, headers=[("own", b"1")])

    service = await start(handle, plugins=[headers])
    await service.receive(A, ("huge", b"x" * 1024 * 1024), B)
    await service.receive(("huge", b"x" * 1024 * 1024))

    assert await service.sent(2) == [(A, B, ("own", b"1")), (("own", b"1"),)]
    assert headers.counts["dropped"] == 2
    warnings = [r for r in caplog.records if r.name == "kafkaesk.headers"]
    assert [r.getMessage().startswith("topic in: 1 headers") for r in warnings] == [True]


async def test_whole_names_are_dropped_from_the_end(start: Start) -> None:
    """3.4, 5: by count and by bytes."""
    by_count, by_bytes = plugin(max_count=3), plugin(max_bytes=4)
    service = await start(answer, plugins=[by_count])
    other = await start(answer, plugins=[by_bytes])
    headers: Headers = (("a", b"1"), ("b", b"2"), ("c", b"3"), ("a", b"4"), ("d", b"5"))

    await service.receive(*headers)
    await other.receive(*headers[:3])

    assert await service.sent() == [(("a", b"1"), ("b", b"2"), ("a", b"4"))]
    assert await other.sent() == [(("a", b"1"), ("b", b"2"))]
    assert (by_count.counts["dropped"], by_bytes.counts["dropped"]) == (2, 1)


async def test_ten_thousand_headers_are_handled(start: Start) -> None:
    headers = plugin()
    service = await start(answer, plugins=[headers])

    await service.receive(*((f"h{number}", b"x") for number in range(10_000)))
    (sent,) = await service.sent()

    assert [name for name, _ in sent] == [f"h{number}" for number in range(100)]
    assert headers.counts["dropped"] == 9_900


# --- batches


async def test_a_batch_hands_on_what_all_its_records_have(start: Start) -> None:
    """3.6.16"""
    seen: list[int] = []

    async def handle(records: list[ConsumerRecord], subscriber: Subscriber) -> None:
        seen.append(len(records))
        await subscriber.publish("out", {"common": True})
        with inherit_from(records[0]):
            await subscriber.publish("out", {})
        with inherit_from(subscriber.messages[1]):
            await subscriber.publish("out", {})

    service = await start(handle, plugins=[plugin()], batch_size=2, batch_timeout=10)
    await service.receive(("tenant", b"t1"), ("x", b"1"), ("x", b"2"), ("own", b"a"))
    await service.receive(("own", b"b"), ("x", b"1"), ("tenant", b"t1"), ("x", b"2"))
    same = await service.sent(3)
    await service.receive(("tenant", b"t1"))
    await service.receive(("tenant", b"t2"))
    different = (await service.sent(6))[3:]

    assert seen == [2, 2]
    assert same[0] == (("tenant", b"t1"), ("x", b"1"), ("x", b"2"))
    assert same[1] == (("tenant", b"t1"), ("x", b"1"), ("x", b"2"), ("own", b"a"))
    assert same[2] == (("own", b"b"), ("x", b"1"), ("tenant", b"t1"), ("x", b"2"))
    assert different == [(), (("tenant", b"t1"),), (("tenant", b"t2"),)]


async def test_what_one_record_of_many_has_otherwise_is_not_handed_on(start: Start) -> None:
    """3.6.16: all of them must agree, also in how often a name occurs."""

    async def handle(records: list[ConsumerRecord], subscriber: Subscriber) -> None:
        await subscriber.publish("out", {"of": len(records)})

    service = await start(handle, plugins=[plugin()], batch_size=3, batch_timeout=10)
    await service.receive(A, ("tenant", b"t1"), ("x", b"1"))
    await service.receive(A, ("tenant", b"t1"), ("x", b"1"))
    await service.receive(A, ("tenant", b"t2"), ("x", b"1"), ("x", b"1"))

    assert await service.sent() == [(A,)]


async def test_a_batch_hands_on_nothing_where_the_settings_say_so(start: Start) -> None:
    async def handle(messages: list[bytes]) -> None:
        await service.app.publish("out", {})

    service = await start(handle, plugins=[plugin(scope="context", batch="none")])
    other_app: list[Application] = []

    async def handle_common(messages: list[bytes]) -> None:
        await other_app[0].publish("out", {})

    other = await start(handle_common, plugins=[plugin(scope="context")], batch_size=2)
    other_app.append(other.app)
    await service.receive(A)
    await other.receive(A, ("x", b"1"))
    await other.receive(A, ("x", b"2"))

    # a batch of one has what its only record has
    assert (await service.sent())[0] == (A,)
    assert A in (await other.sent())[0]


# --- chains


async def test_headers_do_not_accumulate_over_five_topics() -> None:
    """3.6.17: with everything switched on that writes headers."""
    settings = HeaderSettings(correlation=True, max_hops=10)
    app = Application(
        ["embedded://?topics=hop0,hop1,hop2,hop3,hop4,hop5&partitions=1"],
        entry_points=False,
        plugins=[HeadersPlugin(settings)],
    )
    app.schema("Hop", streams=[f"hop{number}" for number in range(1, 6)])({"type": "object"})
    seen: dict[str, Headers] = {}

    @app.subscribe("hop*", "hoppers")
    async def hop(record: ConsumerRecord, subscriber: Subscriber) -> None:
        number = int(record.topic.removeprefix("hop"))
        seen[record.topic] = record.headers
        if number < 5:
            await subscriber.publish(f"hop{number + 1}", {})

    async with consuming(app):
        await app.raw_publish("hop0", b"{}", headers=[A, B])
        await eventually(lambda: len(seen) == 6, within=20)

    names = [name for name, _ in seen["hop1"]]
    assert names == ["x-a", "x-b", "kafkaesk-hops", "correlation-id", "causation-id"]
    assert [len(seen[f"hop{number}"]) for number in range(1, 6)] == [5] * 5
    last = dict(seen["hop5"])
    assert last["kafkaesk-hops"] == b"5"
    assert last["correlation-id"] == b"hop0/0/0"
    assert last["causation-id"] == b"hop4/0/0"


async def test_a_loop_ends_at_its_last_hop(start: Start) -> None:
    """3.4, 5: `max_hops`."""
    refused: list[str] = []

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        try:
            await subscriber.publish("out", {})
        except Exception as error:
            refused.append(f"{type(error).__name__}: {error}")

    headers = plugin(max_hops=3)
    service = await start(handle, plugins=[headers])
    await service.receive(("kafkaesk-hops", b"3"))
    await service.receive(("kafkaesk-hops", b"two"))
    await service.receive(("kafkaesk-hops", None))
    await service.receive(("kafkaesk-hops", b"2"))

    sent = await service.sent(3)
    assert [dict(headers)["kafkaesk-hops"] for headers in sent] == [b"1", b"1", b"3"]
    assert len(refused) == 1
    assert "HopLimitError: publishing to out would be hop 4 of max_hops 3" in refused[0]
    assert headers.counts["reading kafkaesk-hops"] == 1


async def test_a_correlation_that_came_in_goes_on_and_the_callers_stays(start: Start) -> None:
    async def handle(data: bytes, subscriber: Subscriber) -> None:
        await subscriber.publish("out", {})
        await subscriber.publish("out", {}, headers=[("correlation-id", b"mine")])

    service = await start(handle, plugins=[plugin(correlation=True)])
    await service.receive(("correlation-id", b"c-1"), ("causation-id", b"stale"))
    first, second = map(dict, await service.sent(2))

    assert first == {"correlation-id": b"c-1", "causation-id": b"in/0/0"}
    assert second == {"correlation-id": b"mine", "causation-id": b"in/0/0"}


# --- blocks of the service


async def test_a_service_adds_headers_for_a_block(start: Start) -> None:
    """3.3: `propagating`, in a handler and outside of one."""

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        with propagating({"x-a": b"9", "tenant": b"t1"}):
            await subscriber.publish("out", {})

    service = await start(handle, plugins=[plugin()])
    await service.receive(A, B)
    in_handler = await service.sent(1)
    with propagating([("tenant", b"t1"), ("x", b"1"), ("x", b"2")]), propagating({"tenant": b"t2"}):
        await service.app.publish("out", {}, headers=[("x", b"3")])
        await service.app.publish("out", {})
    await service.app.publish("out", {})
    outside = (await service.sent(4))[1:]

    assert in_handler == [(B, ("x-a", b"9"), ("tenant", b"t1"))]
    assert outside == [
        (("tenant", b"t2"), ("x", b"3")),
        (("x", b"1"), ("x", b"2"), ("tenant", b"t2")),
        (),
    ]


def test_a_block_refuses_what_is_no_header() -> None:
    with pytest.raises(TypeError, match="not bytes"), propagating({"tenant": "t1"}):  # type: ignore[arg-type]
        pass
    with pytest.raises(TypeError, match="needs a ConsumerRecord"), inherit_from("record"):  # type: ignore[arg-type]
        pass


async def test_a_handler_can_ask_what_it_would_hand_on(start: Start) -> None:
    """3.3: `current_record`, `inherited_headers`."""
    seen: list[tuple[ConsumerRecord | None, Headers, Headers]] = []

    async def handle(record: ConsumerRecord) -> None:
        with no_propagation():
            nothing = inherited_headers()
        with propagating({"x-a": b"9"}):
            seen.append((current_record(), inherited_headers(), nothing))

    service = await start(handle, plugins=[plugin(scope="context")])
    await service.receive(A, B, ("content-type", b"x"))
    await eventually(lambda: seen, within=20)
    ((record, inherited, nothing),) = seen

    assert record is not None
    assert record.topic == "in"
    assert (inherited, nothing) == ((B, ("x-a", b"9")), ())
    assert (current_record(), inherited_headers()) == (None, ())


# --- failures


class Broken:
    """A message whose headers cannot be read."""

    def __init__(self, message: IncomingMessage) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        if name == "headers":
            raise RuntimeError("no headers")
        return getattr(self._message, name)


async def test_a_failure_of_the_plugin_itself_does_not_stop_the_message(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks:
        stage = "observe"

        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any:
            if message.origins:
                message.origins = tuple(Broken(origin) for origin in message.origins)
            return await call_next(message)

    headers = plugin()
    service = await start(answer, plugins=[headers, Breaks()])
    await service.receive(A)
    await service.receive(A)

    assert await service.sent(2) == [(), ()]
    assert headers.counts == {"handing headers on": 2}
    told = [record for record in caplog.records if record.name == "kafkaesk.headers"]
    assert len(told) == 1
    assert told[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("scope", "handler", "scope: Input should be 'subscriber' or 'context'"),
        ("max_bytes", -1, "max_bytes: Input should be greater than or equal to 0"),
        ("max_hops", 0, "max_hops: Input should be greater than 0"),
        ("include", ["", "x"], "include.0: String should have at least 1 character"),
        ("exclud", [], "unknown key 'exclud'; did you mean 'exclude'?"),
    ],
)
async def test_a_wrong_setting_stops_the_start(name: str, value: Any, told: str) -> None:
    from kafkaesk_core import PluginError

    app = Application("embedded://", plugin_settings={"headers": {name: value}})

    with pytest.raises(PluginError) as caught:
        await app.initialize()

    assert told in str(caught.value)
    assert "kafkaesk-headers" in str(caught.value)


# --- alone and retried


async def test_without_the_plugin_the_bytes_are_the_same(start: Start) -> None:
    """3.6.19"""
    plain = await start(answer, plugins=[])
    idle = await start(answer, plugins=[plugin()])
    for service in (plain, idle):
        await service.app.publish("out", {"a": 1}, key=b"k", headers=[A], timestamp_ms=1)
        await service.sent(1)

    assert plain.app.plugins.layers("wrap_publish") == []
    assert [r.headers for r in plain.out] == [r.headers for r in idle.out] == [(A,)]
    same = ("key", "value", "timestamp", "serialized_value_size")
    assert [[getattr(r, name) for name in same] for r in plain.out] == [
        [getattr(r, name) for name in same] for r in idle.out
    ]


async def test_a_second_attempt_inherits_the_same_once(start: Start) -> None:
    async def handle(data: bytes, subscriber: Subscriber) -> None:
        await subscriber.publish("out", {}, headers=[drop_header("y")])
        if len(attempts) < 2:
            attempts.append(1)
            raise Retry(delay=0)

    class PublishesAgain:
        """The first publish of each message is lost."""

        stage = "observe"

        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any:
            await call_next(message)
            return await call_next(message)

    attempts: list[int] = []
    service = await start(handle, plugins=[plugin(), PublishesAgain()])
    await service.receive(A, ("x", b"1"), ("y", b"3"), ("x", b"2"))
    # 3 attempts, twice each, and the record itself came in twice
    sent = await service.sent(8)

    assert set(sent) == {(A, ("x", b"1"), ("x", b"2"))}


async def test_a_second_start_forgets_what_plugins_owned_that_are_gone(start: Start) -> None:
    headers, owner = plugin(), Owner()
    service = await start(answer, plugins=[headers, owner])
    await service.receive(("traceparent", b"1"))
    await service.sent(1)
    await service.stop()

    service.app.plugins.unregister(owner)
    await service.start()
    await service.receive(("traceparent", b"2"))

    assert await service.sent(2) == [(), (("traceparent", b"2"),)]

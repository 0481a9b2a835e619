"""Spans: which there are, how they hang together, what they carry (4.10)."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from opentelemetry import baggage, context, trace
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.b3 import B3SingleFormat
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from kafkaesk_core import OutgoingMessage, Subscriber
from kafkaesk_otel import OTelPlugin, current_process_span
from kafkaesk_testing import check_plugin, eventually
from kafkaesk_testing.fakes import PendingDelivery, outgoing_message
from tests.plugins.otel.traced import Trace

# Any in this file: the fixtures give objects of this directory's conftest.

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode())
UNSAMPLED = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-00".encode())


def hex_of(span: Any) -> str:
    return trace.format_span_id(span.get_span_context().span_id)


def server_of(app: Any) -> dict[str, Any]:
    host, _, port = app.servers[0].rpartition(":")
    return {"server.address": host, "server.port": int(port)}


def test_the_plugin_conforms_without_an_sdk() -> None:
    check_plugin(OTelPlugin())


def test_the_plugin_conforms_with_an_sdk(sdk: Any) -> None:
    check_plugin(sdk.plugin())


async def test_a_publish_and_its_handling_are_one_trace(sdk: Any, trace_app: Trace) -> None:
    """4.10.1 and 4.10.2: parents, links, kinds, names; all attributes, with their types."""
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(data: Any) -> None: ...

    await traced.start()
    with sdk.tracer.start_as_current_span("root"):
        await traced.publish("in", {"a": 1}, key=b"customer-7")
    await eventually(lambda: sdk.spans("process"), within=20)
    root, send, process = (sdk.span(name) for name in ("root", "send in", "process in"))
    server = server_of(traced.app)

    assert len(sdk.spans()) == 3
    assert len({span.context.trace_id for span in sdk.spans()}) == 1
    assert [span.kind for span in (root, send, process)] == [
        SpanKind.INTERNAL,
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
    ]
    assert send.parent.span_id == root.context.span_id
    assert process.parent.span_id == send.context.span_id
    assert process.parent.is_remote
    assert [link.context.span_id for link in process.links] == [send.context.span_id]
    assert list(send.links) == []
    assert {span.status.status_code for span in (send, process)} == {StatusCode.UNSET}
    shared = {
        "messaging.system": "kafka",
        "messaging.destination.name": "in",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.kafka.message.key": "customer-7",
        **server,
    }
    assert dict(send.attributes) == {
        **shared,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    assert dict(process.attributes) == {
        **shared,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "readers",
        "code.function.name": f"{__name__}.{read.__qualname__}",
        "kafkaesk.schema": "Note:1",
    }
    assert type(process.attributes["messaging.kafka.offset"]) is int
    assert type(process.attributes["server.port"]) is int


class Watching(Sampler):
    """Samples everything, and notes what it was told."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        self.seen[name] = dict(attributes or {})
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "watching"


async def test_samplers_see_what_a_decision_needs(trace_app: Trace, sdk_with: Any) -> None:
    """4.10.3"""
    sampler = Watching()
    sdk = sdk_with(sampler)
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(data: Any, subscriber: Subscriber) -> None:
        await subscriber.consumer.commit()

    await traced.start()
    await traced.publish("in")
    await eventually(lambda: "commit in" in sampler.seen, within=20)
    server = server_of(traced.app)

    shared = {"messaging.system": "kafka", "messaging.destination.name": "in", **server}
    group = {"messaging.consumer.group.name": "readers"}
    send, process, commit = (sampler.seen[n] for n in ("send in", "process in", "commit in"))
    assert shared.items() <= send.items()
    assert (shared | group).items() <= process.items()
    assert (shared | group).items() <= commit.items()
    operations = [
        (seen["messaging.operation.name"], seen["messaging.operation.type"])
        for seen in (send, process, commit)
    ]
    assert operations == [("send", "send"), ("process", "process"), ("commit", "settle")]


async def test_the_handler_runs_in_its_span(sdk: Any, trace_app: Trace) -> None:
    """4.10.4: for what it awaits, its tasks and threads, and what it publishes."""
    seen: dict[str, Any] = {}
    traced = trace_app(sdk.plugin())

    async def current() -> Any:
        return trace.get_current_span()

    @traced.app.subscribe("in", "readers")
    async def read(data: Any, span: trace.Span) -> None:
        seen["injected"] = span
        seen["at once"] = trace.get_current_span()
        await asyncio.sleep(0)
        seen["after await"] = trace.get_current_span()
        seen["gather"], seen["again"] = await asyncio.gather(current(), current())
        seen["thread"] = await asyncio.to_thread(trace.get_current_span)
        with sdk.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT):
            seen["beneath a child"] = current_process_span()
        await traced.publish("out")

    await traced.start()
    await traced.publish("in")
    await eventually(lambda: sdk.spans("process"), within=20)
    process = sdk.span("process in")

    assert {name: hex_of(span) for name, span in seen.items()} == dict.fromkeys(
        seen, trace.format_span_id(process.context.span_id)
    )
    assert len(seen) == 7
    assert sdk.span("GET").parent.span_id == process.context.span_id
    assert sdk.span("send out").parent.span_id == process.context.span_id
    assert current_process_span() is trace.INVALID_SPAN


async def test_concurrent_handlers_keep_to_their_spans(
    sdk: Any, trace_app: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """4.10.5"""
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers", concurrency=50, ordering="unordered")
    async def read(data: Any) -> None:
        await asyncio.sleep(random.random() / 100)  # shuffles them
        with sdk.tracer.start_as_current_span(f"work {data['data']['n']}"):
            await asyncio.sleep(random.random() / 100)

    await traced.start()
    roots = {}
    for number in range(200):
        with sdk.tracer.start_as_current_span(f"root {number}") as root:
            roots[number] = root.get_span_context().trace_id
            await traced.app.publish("in", {"n": number}, schema="Note:1")
    await eventually(lambda: len(sdk.spans("process")) == 200, within=20)
    process_of = {span.context.span_id: span for span in sdk.spans("process")}

    for number in range(200):
        work = sdk.span(f"work {number}")
        assert work.context.trace_id == roots[number]
        assert process_of[work.parent.span_id].context.trace_id == roots[number]
    assert "detach" not in caplog.text


async def test_a_header_is_never_doubled(sdk: Any, trace_app: Trace) -> None:
    """4.10.10: an inherited trace is replaced, one that the caller made is not touched."""
    custom = f"00-{'1' * 32}-{'2' * 16}-01".encode()
    out: list[ConsumerRecord] = []
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(record: ConsumerRecord) -> None:
        await traced.publish("out", headers=record.headers)
        await traced.publish("out", headers=[("traceparent", custom)])
        await traced.publish("out", headers=[("traceparent", b"nonsense"), ("a", b"1")])

    @traced.app.subscribe("out", "collectors")
    async def collect(record: ConsumerRecord) -> None:
        out.append(record)

    await traced.start()
    await traced.app.raw_publish("in", b"", headers=[("x", b"1")])
    await eventually(lambda: len(out) == 3, within=20)
    copied, made, malformed = (record.headers for record in out)
    first, second, third = sdk.spans("send out")
    process = sdk.span("process in")

    assert [name for name, _ in copied] == ["x", "traceparent"]
    assert dict(copied)["traceparent"].decode() == (
        f"00-{trace.format_trace_id(process.context.trace_id)}"
        f"-{trace.format_span_id(first.context.span_id)}-{first.context.trace_flags:02x}"
    )
    assert first.parent.span_id == process.context.span_id
    assert first.kind is SpanKind.PRODUCER
    assert made == (("traceparent", custom),)
    assert second.kind is SpanKind.CLIENT
    assert [trace.format_trace_id(link.context.trace_id) for link in second.links] == ["1" * 32]
    assert malformed == (("traceparent", b"nonsense"), ("a", b"1"))
    assert third.kind is SpanKind.PRODUCER


ODD = {
    "binary": b"\xff\x00",
    "empty": b"",
    "null": None,
    "malformed": b"00-xyz",
    "zero": b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
async def test_a_malformed_trace_is_counted_and_told_once(
    sdk: Any, layers: Any, value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """4.10.11: the record is handled, in a trace of its own."""
    plugin = sdk.plugin()
    chain = layers(plugin)
    unrelated = [(f"h{number}", b"\xff\xfe") for number in range(100)]
    handled = 0

    async def handle(message: Any) -> None:
        nonlocal handled
        handled += 1

    for _ in range(3):
        await chain.consume(handle, headers=[*unrelated, ("traceparent", value)])

    assert handled == 3
    assert [span.parent for span in sdk.spans("process in")] == [None] * 3
    assert [list(span.links) for span in sdk.spans("process in")] == [[]] * 3
    assert plugin.counts["reading a malformed trace header"] == 3
    assert plugin.counts["decoding the header traceparent"] == (3 if value == b"\xff\x00" else 0)
    told = [record.getMessage() for record in caplog.records if record.name == "kafkaesk.otel"]
    assert len(told) == len(plugin.counts)


async def test_ten_thousand_headers_are_no_hindrance(sdk: Any, layers: Any) -> None:
    headers = [(f"h{number}", b"\xff") for number in range(10_000)]

    async def handle(message: Any) -> None: ...

    await layers(sdk.plugin()).consume(handle, headers=[*headers, PARENT])

    assert trace.format_trace_id(sdk.span("process in").context.trace_id) == TRACE


async def test_of_several_trace_headers_the_last_one_counts(sdk: Any, layers: Any) -> None:
    stale = ("traceparent", f"00-{'1' * 32}-{'2' * 16}-01".encode())

    async def handle(message: Any) -> None: ...

    await layers(sdk.plugin()).consume(handle, headers=[stale, PARENT])

    assert trace.format_trace_id(sdk.span("process in").context.trace_id) == TRACE


@pytest.mark.parametrize("has_sdk", [True, False])
async def test_baggage_is_there_in_the_handler_and_goes_on(
    sdk: Any, trace_app: Trace, has_sdk: bool
) -> None:
    """4.10.12"""
    seen: list[Any] = []
    out: list[ConsumerRecord] = []
    traced = trace_app(sdk.plugin() if has_sdk else OTelPlugin())

    @traced.app.subscribe("in", "readers")
    async def read(data: Any) -> None:
        seen.append(baggage.get_baggage("tenant"))
        await traced.publish("out")

    @traced.app.subscribe("out", "collectors")
    async def collect(record: ConsumerRecord) -> None:
        out.append(record)

    await traced.start()
    token = context.attach(baggage.set_baggage("tenant", "a"))
    try:
        await traced.publish("in")
    finally:
        context.detach(token)
    await eventually(lambda: out, within=20)

    assert seen == ["a"]
    assert dict(out[0].headers)["baggage"] == b"tenant=a"


@pytest.fixture
def _b3() -> Any:
    before = get_global_textmap()
    set_global_textmap(B3SingleFormat())
    yield
    set_global_textmap(before)


@pytest.mark.usefixtures("_b3")
async def test_the_global_propagator_is_used(sdk: Any, trace_app: Trace) -> None:
    """4.10.13: b3, as with OTEL_PROPAGATORS=b3."""
    headers: list[Any] = []
    plugin = sdk.plugin()
    traced = trace_app(plugin)

    @traced.app.subscribe("in", "readers")
    async def read(record: ConsumerRecord) -> None:
        headers.append(dict(record.headers))

    await traced.start()
    await traced.publish("in")
    await eventually(lambda: sdk.spans("process"), within=20)

    assert set(headers[0]) == plugin.claimed_headers == {"b3"}
    assert sdk.span("process in").parent.span_id == sdk.span("send in").context.span_id


async def test_who_was_not_sampled_stays_so_and_is_measured(sdk: Any, trace_app: Trace) -> None:
    """4.10.14"""
    out: list[ConsumerRecord] = []
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(record: ConsumerRecord) -> None:
        await traced.publish("out")

    @traced.app.subscribe("out", "collectors")
    async def collect(record: ConsumerRecord) -> None:
        out.append(record)

    await traced.start()
    await traced.app.raw_publish("in", b"", headers=[UNSAMPLED])
    await eventually(lambda: out, within=20)
    version, trace_id, span_id, flags = dict(out[0].headers)["traceparent"].decode().split("-")
    await eventually(lambda: "messaging.process.duration" in sdk.points(), within=20)

    # what the test itself published carries a trace of its caller's: the send span links to it
    assert [span.name for span in sdk.spans() if span.name != "send in"] == []
    assert (version, trace_id, flags) == ("00", TRACE, "00")
    assert span_id != "b7ad6b7169203331"
    assert sum(p.value for p in sdk.points()["messaging.client.sent.messages"]) == 2


async def test_a_message_without_a_trace_begins_one(sdk: Any, layers: Any) -> None:
    """4.10.16: also tombstones, and keys that are no text."""

    async def handle(message: Any) -> None: ...

    chain = layers(sdk.plugin())
    await chain.consume(handle, key=b"\xff\xfe", value=None)
    await chain.consume(handle, key=None)
    tombstone, keyless = sdk.spans("process in")

    assert (tombstone.parent, list(tombstone.links)) == (None, [])
    assert tombstone.attributes["messaging.kafka.message.tombstone"] is True
    assert "messaging.kafka.message.key" not in tombstone.attributes
    assert "messaging.kafka.message.tombstone" not in keyless.attributes
    assert "messaging.kafka.message.key" not in keyless.attributes


async def test_a_batch_is_one_span_that_links_to_all(sdk: Any, trace_app: Trace) -> None:
    """4.10.17"""
    batches: list[int] = []
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers", batch_size=3, batch_timeout=10)
    async def read(messages: list[bytes], subscriber: Subscriber) -> None:
        batches.append(len(messages))
        await subscriber.publish("out", {}, schema="Note:1")

    await traced.start()
    with sdk.tracer.start_as_current_span("first"):
        await traced.publish("in", key=b"a")
        await traced.publish("in", key=b"b")
    with sdk.tracer.start_as_current_span("second"):
        await traced.publish("in")
    await eventually(lambda: sdk.spans("process") and sdk.spans("send out"), within=20)
    process, sends = sdk.span("process in"), sdk.spans("send in")

    assert batches == [3]
    assert process.parent is None
    assert process.attributes["messaging.batch.message_count"] == 3
    assert process.attributes["messaging.destination.partition.id"] == "0"
    assert "messaging.kafka.offset" not in process.attributes
    assert [link.context.span_id for link in process.links] == [s.context.span_id for s in sends]
    assert [dict(link.attributes) for link in process.links] == [
        {"messaging.kafka.offset": 0, "messaging.kafka.message.key": "a"},
        {"messaging.kafka.offset": 1, "messaging.kafka.message.key": "b"},
        {"messaging.kafka.offset": 2},
    ]
    assert len({link.context.trace_id for link in process.links}) == 2
    assert sdk.span("send out").parent.span_id == process.context.span_id


async def test_empty_polls_leave_nothing(sdk: Any, trace_app: Trace) -> None:
    """4.10.18"""
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(data: Any) -> None: ...

    async with traced.app:
        assert await traced.app.consume_for(1, seconds=2) == 0

    assert sdk.spans() == []
    assert sdk.points("messaging.") == {}


async def test_only_commits_by_hand_have_spans(sdk: Any, trace_app: Trace) -> None:
    """4.10.21"""
    traced = trace_app(sdk.plugin(), auto_commit_interval_ms=100)
    intervals: list[str] = []

    @traced.app.hook
    async def wrap_commit(offsets: Any, call_next: Any, reason: str) -> None:
        await call_next(offsets)
        intervals.append(reason)

    @traced.app.subscribe("in", "readers")
    async def read(data: Any, subscriber: Subscriber) -> None:
        if data["data"]:
            await subscriber.consumer.commit()

    await traced.start()
    await traced.publish("in", {"by": "hand"})
    await traced.publish("in")
    await eventually(lambda: {"manual", "interval"} <= set(intervals), within=20)
    commit, process = sdk.span("commit in"), sdk.spans("process in")[0]

    assert commit.kind is SpanKind.CLIENT
    assert commit.parent.span_id == process.context.span_id
    assert dict(commit.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "commit",
        "messaging.operation.type": "settle",
        "messaging.destination.name": "in",
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": "readers",
        **server_of(traced.app),
    }


@pytest.mark.parametrize(
    ("spans", "seen"),
    [("all", ["manual", "interval"]), ("manual", ["manual"]), ("off", [])],
)
async def test_which_commits_have_spans_is_a_setting(
    sdk: Any, layers: Any, spans: str, seen: list[str]
) -> None:
    async def commit(offsets: Any) -> None: ...

    chain = layers(sdk.plugin(settle_spans=spans))
    offsets = {TopicPartition("a", 0): 1, TopicPartition("b", 0): 1}
    for reason in ("manual", "interval"):
        await chain.commit(commit, offsets, reason=reason)

    assert [span.name for span in sdk.spans()] == ["commit"] * len(seen)
    assert all("messaging.destination.name" not in span.attributes for span in sdk.spans())
    points = sdk.points()["messaging.client.operation.duration"]
    assert sum(point.value for point in points) == 2


@pytest.mark.parametrize(
    ("setting", "has_ambient", "parent", "links"),
    [
        ("creation", False, "creation", ["creation"]),
        ("creation", True, "creation", ["creation", "ambient"]),
        ("ambient", False, "creation", ["creation"]),
        ("ambient", True, "ambient", ["creation"]),
        ("root", False, "none", ["creation"]),
        ("root", True, "none", ["creation", "ambient"]),
    ],
)
async def test_the_parent_is_a_setting(
    sdk: Any, layers: Any, setting: str, has_ambient: bool, parent: str, links: list[str]
) -> None:
    """4.4: who is not the parent is linked to."""
    ids = {"b7ad6b7169203331": "creation", None: "none"}

    async def handle(message: Any) -> None: ...

    chain = layers(sdk.plugin(process_parent=setting))
    if has_ambient:
        with sdk.tracer.start_as_current_span("ambient") as ambient:
            ids[hex_of(ambient)] = "ambient"
            await chain.consume(handle, headers=[PARENT])
    else:
        await chain.consume(handle, headers=[PARENT])
    process = sdk.span("process in")
    found = None if process.parent is None else trace.format_span_id(process.parent.span_id)

    assert ids[found] == parent
    assert [ids[trace.format_span_id(link.context.span_id)] for link in process.links] == links


async def test_what_the_settings_ask_for_is_captured(sdk: Any, layers: Any) -> None:
    plugin = sdk.plugin(
        capture_key=False,
        capture_headers=("x-tenant",),
        capture_body_size=True,
        conversation_id_header="correlation-id",
        message_id_header="ce_id",
        destination_templates={"tenant-*": "tenant-{id}"},
        server_address="[::1]:9093",
        propagate_producer=False,
    )
    headers = [("x-tenant", b"1"), ("x-tenant", b"\xff"), ("correlation-id", b"c"), ("ce_id", b"i")]

    async def handle(message: Any) -> None: ...

    chain = layers(plugin)
    await chain.consume(handle, headers=headers)
    message = OutgoingMessage("tenant-7", "tenant-7", b"123", key=b"k", headers=list(headers))
    pending = PendingDelivery(TopicPartition("tenant-7", 0))
    pending.acknowledge(None)
    await chain.publish(pending.delivery, message)
    await eventually(lambda: sdk.spans("send"))
    process, send = sdk.span("process in"), sdk.span("send tenant-{id}")

    for span in (process, send):
        assert "messaging.kafka.message.key" not in span.attributes
        assert span.attributes["messaging.header.x-tenant"] == ("1", "\ufffd")
        assert span.attributes["messaging.message.conversation_id"] == "c"
        assert span.attributes["messaging.message.id"] == "i"
        assert span.attributes["server.address"] == "::1"
        assert span.attributes["server.port"] == 9093
    assert process.attributes["messaging.message.body.size"] == 29
    assert send.attributes["messaging.message.body.size"] == 3
    assert send.attributes["messaging.destination.name"] == "tenant-7"
    assert send.attributes["messaging.destination.template"] == "tenant-{id}"
    assert message.headers == headers


async def test_excluded_topics_and_suppressed_code_are_not_traced(
    sdk: Any, layers: Any, acknowledged: Any
) -> None:
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

    async def handle(message: Any) -> None: ...

    excluding = layers(sdk.plugin(exclude_topics=("i*", "out")))
    await excluding.consume(handle, headers=[PARENT])
    message = outgoing_message(stream="out")
    await excluding.publish(acknowledged, message)
    chain = layers(sdk.plugin())
    token = context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        await chain.consume(handle, headers=[PARENT])
        suppressed = outgoing_message(stream="out")
        await chain.publish(acknowledged, suppressed)
    finally:
        context.detach(token)

    assert sdk.spans() == []
    assert sdk.points() == {}
    assert message.headers == suppressed.headers == []


@pytest.mark.d40
@pytest.mark.parametrize("opt_in", ["", "messaging", "messaging/dup"])
async def test_the_scope_names_the_convention(
    sdk: Any, layers: Any, monkeypatch: pytest.MonkeyPatch, opt_in: str
) -> None:
    """4.10.20: nothing of older conventions is set, whatever is opted into (D40)."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opt_in)

    async def handle(message: Any) -> None: ...

    await layers(sdk.plugin()).consume(handle)
    process = sdk.span("process in")

    assert process.instrumentation_scope.name == "kafkaesk_otel"
    assert process.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert process.instrumentation_scope.version
    legacy = {"messaging.operation", "messaging.kafka.consumer.group", "messaging.client_id"}
    assert not legacy & set(process.attributes)


async def test_what_a_handler_leaves_attached_is_gone_for_the_next(
    sdk: Any, trace_app: Trace
) -> None:
    """4.10.7, its last part."""
    seen: list[Any] = []
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(record: ConsumerRecord) -> None:
        seen.append(baggage.get_baggage("left"))
        context.attach(baggage.set_baggage("left", "behind"))

    await traced.start()
    for _ in range(3):
        await traced.publish("in")
    await eventually(lambda: len(seen) == 3, within=20)

    assert seen == [None, None, None]


def test_spans_can_be_shown_as_json(sdk: Any) -> None:
    """The exporters of the SDK take what we set."""
    check_plugin(sdk.plugin())

    assert all(json.loads(span.to_json()) for span in sdk.spans())


@pytest.fixture(autouse=True)
def _no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []

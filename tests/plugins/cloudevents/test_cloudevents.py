"""CloudEvents: what is on the wire, what is read, and what is said of records that are none.

The SDK of the CloudEvents project writes and reads beside the plugin.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from pydantic import BaseModel

from kafkaesk_cloudevents import (
    CloudEvent,
    CloudEventsPlugin,
    CloudEventsSettings,
    event_headers,
)
from kafkaesk_core import Application, PluginError, Subscriber, hookimpl
from kafkaesk_headers import HeadersPlugin
from kafkaesk_retry import RetryPlugin, RetrySettings, retries
from kafkaesk_schemas import SchemasPlugin, upcast
from kafkaesk_schemas.asyncapi import asyncapi_document
from kafkaesk_testing import check_plugin, eventually

SETTINGS: dict[str, Any] = {"streams": ("orders.*",), "source": "/shop"}


class Order(BaseModel):
    number: int


class Invoice(BaseModel):
    total: int


def plugin(**settings: Any) -> CloudEventsPlugin:
    return CloudEventsPlugin(CloudEventsSettings(**{**SETTINGS, **settings}))


def new_app(*others: object, options: Any = None, **settings: Any) -> Application:
    app = Application(plugins=[plugin(**settings), *others], entry_points=False)
    app.schema("Order", streams=["orders.placed"], options=options)(Order)
    return app


def collect(app: Application, annotation: Any = Order) -> list[Any]:
    """Subscribe a handler of an annotation; return the list of what it gets."""
    got: list[Any] = []

    async def handler(
        data: Any, schema: str, event: CloudEvent | None, record: ConsumerRecord
    ) -> None:
        got.append((data, schema, event, record))

    handler.__annotations__["data"] = annotation
    app.subscribe("*", "billing")(handler)
    return got


Headers = list[tuple[str, bytes | None]]


async def refusal(app: Application, data: Any, headers: Headers | None = None) -> str:
    """Why a message of orders.placed is not handled."""
    return str((await app.handle("orders.placed", data, headers=headers)).error)


def changed(**headers: bytes | None) -> Headers:
    """The headers of an event, some of them replaced; None takes one away."""
    usual = {"specversion": b"1.0", "id": b"1", "source": b"/s", "type": b"Order.v1"}
    found: Headers = [(f"ce_{name}", text) for name, text in {**usual, **headers}.items() if text]
    return found


EVENT = changed()


# --- on the wire


async def test_an_event_goes_through_kafka_and_is_what_the_sdk_reads(
    kafkaesk_app: Application,
) -> None:
    app = kafkaesk_app
    app.plugins.register(plugin(type="com.example.{name}.v{version}"))
    app.schema("Order", streams=["orders.placed"])(Order)
    got = collect(app)
    told = event_headers(id="7", subject="order/7", note=b"\xff", big=True)

    async with app:
        await app.publish("orders.placed", Order(number=7), key=b"k", headers=told, timestamp_ms=0)
        await app.consume_for(1, seconds=20)

    ((order, schema, event, record),) = got
    assert (order, schema, record.value) == (Order(number=7), "Order:1", b'{"number":7}')
    assert event == CloudEvent(
        id="7",
        source="/shop",
        type="com.example.Order.v1",
        subject="order/7",
        time=datetime(1970, 1, 1, tzinfo=UTC),
        datacontenttype="application/json",
        extensions={"note": b64encode(b"\xff").decode(), "big": "true"},
    )
    read = sdk.from_binary_event(sdk.KafkaMessage(dict(record.headers), record.key, record.value))
    assert (read.get_type(), read.get_data()) == ("com.example.Order.v1", {"number": 7})
    assert (read.get_time(), read.get_extension("partitionkey")) == (event.time, "k")


@pytest.mark.parametrize("write", [sdk.to_binary_event, sdk.to_structured_event])
@pytest.mark.parametrize("annotation", [Order, Order | Invoice, Order | None])
async def test_what_the_sdk_writes_is_read_in_both_modes(
    write: Callable[..., sdk.KafkaMessage], annotation: Any
) -> None:
    app = new_app()
    app.schema("Invoice")(Invoice)
    got = collect(app, annotation)
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    attributes = {"id": "1", "source": "/s", "type": "Order.v1", "time": time, "specversion": "1.0"}
    message = write(SdkEvent({**attributes, "datacontenttype": "application/json"}, {"number": 3}))

    result = await app.handle("orders.placed", message.value, headers=[*message.headers.items()])

    assert result.error is None
    assert got[0][:2] == (Order(number=3), "Order:1")
    assert (got[0][2].time, got[0][2].source, got[0][2].extensions) == (time, "/s", {})


async def test_each_message_has_an_id_of_its_own_and_keeps_it_when_it_is_sent_again() -> None:
    class Again:
        """Publishes everything twice."""

        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any:
            await call_next(message)
            return await call_next(message)

    app = Application("embedded://", plugins=[plugin(), Again()], entry_points=False)
    app.schema("Order")(Order)
    got = collect(app)

    async with app:
        for number in (1, 2):
            await app.publish("orders.placed", Order(number=number), key=b"k")
        await app.consume_for(4, seconds=20)

    ids = [event.id for _, _, event, _ in got]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert all(len(record.headers) == 6 for *_, record in got)


async def test_streams_that_are_not_named_keep_the_envelope() -> None:
    app = new_app()
    got = collect(app)

    result = await app.handle("invoices", Order(number=1), group="billing")

    assert result.error is None
    assert got[0][3].value == b'{"schema":"Order:1","data":{"number":1}}'
    assert got[0][2] is None


async def test_a_schemas_type_is_what_its_option_says() -> None:
    app = new_app(options={"cloudevents": "com.example.order.placed"})
    got = collect(app)

    assert await refusal(app, Order(number=1)) == "None"

    assert got[0][1:2] == ("Order:1",)
    assert got[0][2].type == "com.example.order.placed"


async def test_a_handler_without_a_model_gets_any_event() -> None:
    app = new_app()
    got = collect(app, Any)
    headers = changed(type=b"com.github.push")

    assert await refusal(app, b'{"ref":"main"}', headers) == "None"

    assert got[0][:2] == ({"schema": "com.github.push", "data": {"ref": "main"}}, "com.github.push")


async def test_an_event_of_an_older_version_is_brought_up_to_date() -> None:
    app = Application(plugins=[plugin(), SchemasPlugin()], entry_points=False)
    app.schema("Order", version=2)(Order)
    upcast(app, "Order", 1)(lambda data: {"number": data["no"]})
    got = collect(app)

    assert await refusal(app, b'{"no":4}', EVENT) == "None"

    assert got[0][:2] == (Order(number=4), "Order:1")


async def test_while_a_topic_moves_its_envelopes_are_read_too() -> None:
    app = new_app(also_envelopes=True)
    got = collect(app)

    assert await refusal(app, b'{"schema":"Order:1","data":{"number":1}}') == "None"
    assert await refusal(app, b'{"number":2}', EVENT) == "None"

    assert [(order.number, event and event.id) for order, _, event, _ in got] == [
        (1, None),
        (2, "1"),
    ]
    assert "an envelope without data" in await refusal(app, b'{"schema":"Order:1"}')
    assert "not an envelope" in await refusal(app, b"{}")


async def test_attributes_of_a_record_are_not_handed_on_with_its_other_headers() -> None:
    app = new_app(HeadersPlugin())
    app.configure("embedded://")
    app.schema("Invoice", streams=["orders.billed"])(Invoice)
    got: list[Any] = []

    @app.subscribe("orders.placed", "billing")
    async def bill(order: Order, subscriber: Subscriber) -> None:
        await subscriber.publish("orders.billed", Invoice(total=1))

    @app.subscribe("orders.billed", "billing")
    async def keep(invoice: Invoice, event: CloudEvent, record: ConsumerRecord) -> None:
        got.extend((event, dict(record.headers)))

    async with app:
        headers = [*event_headers(id="first", subject="s"), ("tenant", b"blue")]
        await app.publish("orders.placed", Order(number=1), headers=headers)
        await app.consume_for(2, seconds=20)

    event, names = got
    assert (event.type, event.subject, names["tenant"]) == ("Invoice.v1", None, b"blue")
    assert event.id != "first"


async def test_an_event_that_waited_for_its_retry_is_still_an_event() -> None:
    settings = RetrySettings(attempts=1, first=0.01, most=0.01)
    app = new_app(RetryPlugin(settings))
    app.configure("embedded://")
    got: list[Any] = []

    @app.subscribe("orders.placed", "billing")
    @retries(later=(1,), reorder=True)
    async def bill(order: Order, event: CloudEvent) -> None:
        got.append((order.number, event.id))
        if len(got) == 1:
            raise ConnectionError("away")

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.publish("orders.placed", Order(number=1), headers=event_headers(id="first"))
        await eventually(lambda: len(got) == 2, within=40)
        await app.stop()
        await consuming

    assert got == [(1, "first")] * 2


def test_the_asyncapi_document_has_the_attributes_as_headers() -> None:
    document = asyncapi_document(new_app(type="com.example.{name}.v{version}"), "Shop")

    message = document["components"]["messages"]["Order_1.CloudEvents"]
    assert message["payload"]["properties"].keys() == {"number"}
    assert message["headers"]["properties"]["ce_type"]["const"] == "com.example.Order.v1"
    assert {"ce_id", "ce_source", "ce_specversion", "ce_type"} == {*message["headers"]["required"]}


def test_without_streams_the_plugin_has_no_codec_and_claims_nothing() -> None:
    idle = CloudEventsPlugin()
    app = Application(plugins=[idle], entry_points=False)

    assert app.plugins.codec is None
    assert app.claimed_headers == frozenset()


def test_the_plugin_conforms() -> None:
    check_plugin(plugin())
    check_plugin(plugin(streams=("*",), also_envelopes=True))


# --- records that are no events


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "is not a CloudEvent: its attribute specversion is missing; its producer has to"),
        (changed(id=None), "orders.placed[0]@0 is not a CloudEvent: its attribute id is missing"),
        ([*changed(source=None), ("ce_source", b"")], "its attribute source is empty"),
        ([*changed(source=None), ("ce_source", None)], "its attribute source is empty"),
        (changed(specversion=b"0.3"), "of specversion '0.3', and '1.0' is read"),
        (changed(specversion=b"2.0"), "of specversion '2.0', and '1.0' is read"),
        (changed(type=b"\xff"), "the header ce_type with bytes that are no UTF-8"),
        ([*EVENT, ("ce_id", b"2")], "has two headers ce_id: '1' and '2'"),
        (changed(type=b"Invoice.v1"), "has schema Invoice:1, and its handler takes Order"),
        (changed(type=b"push"), "type 'push', which stands for no schema; give it to one, as in "),
        ([*EVENT, ("content-type", b"application/xml")], "the content type 'application/xml', and"),
        ([("content-type", b"application/cloudevents+avro")], "'application/cloudevents+avro'; "),
        ([("content-type", b"application/cloudevents-batch+json")], "events are read in binary"),
        (changed(time=b"yesterday"), "has the time 'yesterday', which is no timestamp of RFC 3339"),
        (changed(time=b"2026-01-01"), "has the time '2026-01-01', which is no timestamp"),
    ],
)
async def test_a_record_that_is_no_event_says_why(headers: Headers, said: str) -> None:
    app = new_app()

    @app.subscribe("orders.*", "billing")
    async def bill(order: Order, event: CloudEvent) -> None: ...

    assert said in await refusal(app, b'{"number":1}', headers)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"[]", "has a list where a JSON event is an object"),
        (b"{}", "its attribute specversion is missing"),
        (
            b'{"specversion":"1.0","id":"1","source":"/","type":"Order.v1"}',
            "Input should be an obj",
        ),
        (
            b'{"specversion":"1.0","id":"1","source":"/","type":"Order.v1","data_base64":"?"}',
            "a data_base64 that is no Base64",
        ),
    ],
)
async def test_a_structured_event_that_is_none_says_why(value: bytes, said: str) -> None:
    app = new_app()
    collect(app)

    error = await refusal(app, value, [("content-type", b"application/cloudevents+json")])

    assert said in error


async def test_structured_data_in_base64_is_read_as_json() -> None:
    app = new_app()
    got = collect(app)
    event = {"specversion": "1.0", "id": "1", "source": "/", "type": "Order.v1", "count": 3}
    value = json.dumps({**event, "data_base64": b64encode(b'{"number":9}').decode()}).encode()
    headers: Headers = [("Content-Type", b"application/cloudevents+json; charset=utf-8")]

    assert await refusal(app, value, headers) == "None"

    assert got[0][0] == Order(number=9)
    assert got[0][2].extensions == {"count": "3"}


# --- misuse


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([("ce_type", b"other")], "the header ce_type is 'other', and it is written as 'Order.v1'"),
        ([("ce_specversion", b"0.3")], "the header ce_specversion is '0.3', and it is written as"),
        ([("content-type", b"text/xml")], "the header content-type is 'text/xml', and its data is"),
        ([("ce_id", b"")], "attribute id is empty; give it a value, or leave it out"),
        ([("ce_id", None)], "attribute id is empty"),
        ([("ce_id", b"1"), ("ce_id", b"2")], "the header ce_id is set twice"),
        ([("ce_note", b"\xff")], "the header ce_note is no UTF-8; make it with event_headers()"),
        ([("ce_My-Note", b"1")], "attribute 'My-Note' has a name that CloudEvents refuses"),
        ([("ce_source", b"my shop")], "attribute source is 'my shop', which is no URI or path"),
        ([("ce_dataschema", b"%2")], "attribute dataschema is '%2', which is no URI"),
        ([("ce_time", b"2026-01-01")], "attribute time is '2026-01-01', which is no timestamp"),
        ([("ce_note", b"a\nb")], r"has the control character '\n'"),
    ],
)
async def test_a_header_that_no_event_may_have_is_refused(headers: Headers, said: str) -> None:
    app = new_app()
    collect(app)

    with pytest.raises(Exception, match="a CloudEvent of schema Order:1 for topic orders") as error:
        await app.handle("orders.placed", Order(number=1), headers=headers)

    assert said in str(error.value)


async def test_what_the_caller_may_set_is_kept() -> None:
    app = new_app()
    got = collect(app)
    headers: Headers = [
        *((f"ce_{name}", text) for name, text in (("id", b"9"), ("source", b"/other"))),
        ("content-type", b"application/vnd.shop+json; charset=utf-8"),
    ]

    assert await refusal(app, Order(number=1), headers) == "None"

    event = got[0][2]
    assert (event.id, event.source) == ("9", "/other")
    assert event.datacontenttype == "application/vnd.shop+json; charset=utf-8"


def test_attributes_are_written_as_cloudevents_says() -> None:
    east = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))

    found = dict(
        event_headers(time=east, dataschema="urn:x", a1=5, b=False, c=None, d="\N{SNOWMAN}")
    )

    assert found == {
        "ce_time": b"2026-01-01T00:00:00Z",
        "ce_dataschema": b"urn:x",
        "ce_a1": b"5",
        "ce_b": b"false",
        "ce_d": "\N{SNOWMAN}".encode(),
    }


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"type": "x"}, "attribute type is written from the message's schema"),
        ({"data": "x"}, "attribute data is written from the message's schema"),
        ({"id": ""}, "attribute id is empty"),
        ({"source": "a b"}, "attribute source is 'a b', which is no URI or path"),
        ({"id": 7}, "attribute id is of type int, not str"),
        ({"my_note": "x"}, "attribute 'my_note' has a name that CloudEvents refuses"),
        ({"count": 2**31}, "more than 32 bits"),
        ({"price": 1.5}, "attribute price is of type float; CloudEvents has"),
        ({"time": datetime(2026, 1, 1)}, "without a time zone"),
        ({"note": "\ud800"}, "control character"),
    ],
)
def test_an_attribute_that_cannot_be_is_refused(attributes: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        event_headers(**attributes)


async def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKAESK_CLOUDEVENTS_STREAMS", "orders.*,bills")
    monkeypatch.setenv("KAFKAESK_CLOUDEVENTS_SOURCE", "https://shop.example.com/a%20b")
    monkeypatch.setenv("KAFKAESK_CLOUDEVENTS_TYPE", "com.example.{name}.v{version}")
    monkeypatch.setenv("KAFKAESK_PLUGINS", "cloudevents")
    app = Application()
    app.schema("Order")(Order)
    got = collect(app)

    for stream in ("orders.placed", "bills"):
        assert (await app.handle(stream, Order(number=1))).error is None

    assert {event.type for _, _, event, _ in got} == {"com.example.Order.v1"}
    assert {event.source for _, _, event, _ in got} == {"https://shop.example.com/a%20b"}


@pytest.mark.parametrize("time", ["2026-01-02T03:04:05Z", "2026-01-02t03:04:05.000000000z"])
async def test_every_way_to_write_a_time_is_read(time: str) -> None:
    app = new_app()
    got = collect(app)

    assert await refusal(app, b'{"number":1}', changed(time=time.encode())) == "None"

    assert got[0][2].time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "my shop"}, "attribute source is 'my shop', which is no URI or path"),
        ({"source": ""}, "streams names orders.*, and source is empty; name this service"),
        ({"type": "{name}{version}"}, "with text between"),
        ({"type": "Order"}, "write {name} and {version} once"),
        ({"type": "{name}.{name}.v{version}"}, "write {name} and {version} once"),
        ({"streams": ("",)}, "at least 1 character"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match="validation error") as error:
        plugin(**settings)

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"cloudevents": True}, None, "has the option 'cloudevents': True; give the type of its"),
        ({"cloudevents": ""}, None, "give the type of its events"),
        ({"cloudevents": "x"}, {"cloudevents": "x"}, "Order:1 and Order:2 have one CloudEvents"),
        ({"cloudevents": "Order.v2"}, None, "Order:1 and Order:2 have one CloudEvents type"),
    ],
)
async def test_types_that_cannot_work_stop_the_start(one: Any, other: Any, said: str) -> None:
    app = Application("embedded://", plugins=[plugin()], entry_points=False)
    app.schema("Order", options=one)(Order)
    app.schema("Order", version=2, options=other)(Invoice)

    with pytest.raises(Exception, match=said):
        await app.initialize()


async def test_an_option_without_streams_stops_the_start() -> None:
    app = Application("embedded://", plugins=[CloudEventsPlugin()], entry_points=False)
    app.schema("Order", options={"cloudevents": "x"})(Order)

    with pytest.raises(PluginError, match="no stream carries CloudEvents; name them in"):
        await app.initialize()

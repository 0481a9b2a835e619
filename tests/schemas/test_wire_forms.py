"""Other forms on the wire than the envelope: plain JSON, and codecs of plugins."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    DecodeError,
    IncomingMessage,
    InvalidMessageError,
    InvalidSchemaError,
    OutgoingMessage,
    SchemaRegistration,
    Subscription,
    SubscriptionError,
    hookimpl,
)
from kafkaesk_core.schema.registry import Schemas
from kafkaesk_core.topics import Topics


class Order(BaseModel):
    number: int


class Invoice(BaseModel):
    total: int


def new_app(*plugins: object, envelope: bool = True) -> Application:
    app = Application(plugins=plugins, entry_points=False)
    app.schema("Order", streams=["orders"], envelope=envelope)(Order)
    return app


def collect(app: Application, annotation: Any, **options: Any) -> list[Any]:
    """Subscribe a handler of an annotation; return the list of what it gets."""
    got: list[Any] = []

    async def handler(data: Any, schema: str, record: ConsumerRecord) -> None:
        got.append((data, schema, record.value))

    handler.__annotations__["data"] = annotation
    app.subscribe("*", "group", **options)(handler)
    return got


async def handled(app: Application, data: Any, **options: Any) -> BaseException | None:
    return (await app.handle("orders", data, **options)).error


# --- plain JSON


async def test_a_schema_without_an_envelope_is_plain_json_both_ways() -> None:
    app = new_app(envelope=False)
    got = collect(app, Order)

    error = await handled(app, Order(number=7))

    assert error is None
    assert got == [(Order(number=7), "Order:1", b'{"number":7}')]


@pytest.mark.parametrize(
    ("annotation", "value", "data"),
    [
        (Invoice, b'{"total":3}', Invoice(total=3)),
        (Order | Invoice, b'{"total":3}', Invoice(total=3)),
        (Invoice | None, None, None),
        (Any, b'{"total":3}', {"total": 3}),
        (dict[str, int], b'{"total":3}', {"total": 3}),
    ],
)
async def test_a_subscription_without_an_envelope_reads_plain_json(
    annotation: Any, value: bytes | None, data: Any
) -> None:
    app = Application(entry_points=False)
    got = collect(app, annotation, envelope=False)

    error = await handled(app, value)

    assert error is None
    assert got == [(data, "", value)]


@pytest.mark.parametrize("value", [b'1,"data":2', b'{"number":"x"}', b"{", b'"x","schema":"y"'])
async def test_what_is_no_plain_json_of_the_model_is_refused(value: bytes) -> None:
    app = new_app(envelope=False)
    got = collect(app, Order)

    error = await handled(app, value)

    assert isinstance(error, (DecodeError, InvalidMessageError))
    assert got == []


async def test_a_subscription_says_which_of_two_forms_its_records_have() -> None:
    def subscribe(**options: Any) -> tuple[Application, list[Any]]:
        app = new_app(envelope=False)
        app.schema("Invoice")(Invoice)
        return app, collect(app, Order | Invoice, **options)

    unclear, _ = subscribe()
    enveloped, got = subscribe(envelope=True)

    with pytest.raises(SubscriptionError, match=r"with and without an envelope \(Order:1: without"):
        await handled(unclear, b"{}")
    assert await handled(enveloped, b'{"schema":"Invoice:1","data":{"total":3}}') is None
    assert got[0][:2] == (Invoice(total=3), "Invoice:1")


def test_envelope_is_a_bool() -> None:
    wrong: Any = "no"

    with pytest.raises(SubscriptionError, match="envelope='no'; give True, False or None"):
        Application(entry_points=False).subscribe("orders", "group", envelope=wrong)(print_it)
    with pytest.raises(InvalidSchemaError, match="envelope must be True or False, got 'no'"):
        new_app(envelope=wrong)


async def print_it(data: bytes) -> None: ...


# --- codecs


class Reversed:
    """Writes and reads the JSON of data backwards, and names the schema in a header."""

    def __init__(self, streams: tuple[str, ...] = ("orders",)) -> None:
        self.streams = streams
        self.asked: list[Any] = []

    @hookimpl
    def codec(self, stream: str, schema: SchemaRegistration | None) -> Any:
        self.asked.append((stream, schema and schema.key))
        return self if stream in self.streams else None

    def encode(self, message: OutgoingMessage, schema: SchemaRegistration, content: bytes) -> bytes:
        message.headers.append(("schema", schema.key.encode()))
        return content[::-1]

    def decode(
        self, message: IncomingMessage, schema: SchemaRegistration | None
    ) -> tuple[str, bytes]:
        assert message.value is not None
        return dict(message.headers)["schema"].decode(), message.value[::-1]  # type: ignore[union-attr]  # it has one


@pytest.mark.parametrize(
    ("annotation", "data"),
    [
        (Order, Order(number=7)),
        (Order | None, Order(number=7)),
        (Invoice | Order, Order(number=7)),
        (Any, {"schema": "Order:1", "data": {"number": 7}}),
    ],
)
async def test_a_codec_writes_and_reads_its_own_form(annotation: Any, data: Any) -> None:
    app = new_app(Reversed())
    app.schema("Invoice")(Invoice)
    got = collect(app, annotation)

    error = await handled(app, Order(number=7))

    assert error is None
    assert [each[0] for each in got] == [data]
    assert got[0][2] == b'}7:"rebmun"{'


def test_a_codec_is_asked_once_per_stream_and_schema() -> None:
    asked: list[Any] = []

    def find(stream: str, schema: SchemaRegistration | None) -> None:
        asked.append((stream, schema and schema.key))

    schemas = Schemas()
    schemas.register(SchemaRegistration("Order", model=Order))
    decode = schemas.decoder(Order, codec=find)
    encode = schemas.encoding(Topics("", None), validate=True, codec=find)

    for _ in range(3):
        encode(OutgoingMessage("sent", "sent", Order(number=1)))
        decode(incoming(b'{"schema":"Order:1","data":{"number":1}}'))

    assert asked == [("sent", "Order:1"), ("read", "Order:1")]


def incoming(value: bytes) -> IncomingMessage:
    record = ConsumerRecord("read", 0, 7, 0, 0, None, value, None, -1, len(value), ())
    return IncomingMessage(record, "read")


async def test_what_a_codec_raises_is_the_failure_of_its_record() -> None:
    app = new_app(Reversed())
    collect(app, Order)

    error = await handled(app, b"text")

    assert isinstance(error, DecodeError)
    assert "orders[0]@0 cannot be decoded by Reversed: KeyError: 'schema'" in str(error)


async def test_an_answer_that_is_no_codec_names_its_plugin() -> None:
    class Wrong:
        @hookimpl
        def codec(self, stream: str, schema: SchemaRegistration | None) -> Any:
            return "json"

    app = new_app(Wrong())
    collect(app, Order)

    error = await handled(app, b"{}")

    assert "plugin 'wrong': codec returned str, expected a codec or None" in str(error)


# --- upcasters


class Upcasts:
    @hookimpl
    def upcasters(self, schema: SchemaRegistration, subscription: Subscription) -> Any:
        return {"Order:1": lambda data: {"number": data["no"]}}


@pytest.mark.parametrize("annotation", [Order, Order | None, Order | Invoice, list[Order]])
@pytest.mark.parametrize("spaces", ["", " "])
async def test_a_record_of_an_older_version_is_brought_up_to_date(
    annotation: Any, spaces: str
) -> None:
    app = Application(plugins=[Upcasts()], entry_points=False)
    app.schema("Order", version=2)(Order)
    app.schema("Invoice")(Invoice)
    got: list[Any] = []

    async def handler(data: Any) -> None:
        got.extend(data if isinstance(data, list) else [data])

    handler.__annotations__["data"] = annotation
    app.subscribe("orders", "group")(handler)
    values = (
        '{%s"schema":"Order:1","data":{"no":1}}',
        '{%s"schema":"Order:2","data":{"number":2}}',
    )

    errors = [await handled(app, (value % spaces).encode()) for value in values]

    assert errors == [None, None]
    assert got == [Order(number=1), Order(number=2)]


@pytest.mark.parametrize("annotation", [Order, Order | None, Order | Invoice, list[Order]])
async def test_a_record_of_a_codec_is_brought_up_to_date_too(annotation: Any) -> None:
    app = Application(plugins=[Upcasts(), Reversed()], entry_points=False)
    app.schema("Order", version=2)(Order)
    app.schema("Invoice")(Invoice)
    got: list[Any] = []

    async def handler(data: Any) -> None:
        got.extend(data if isinstance(data, list) else [data])

    handler.__annotations__["data"] = annotation
    app.subscribe("orders", "group")(handler)

    def handle(schema: bytes, value: bytes) -> Any:
        return handled(app, value[::-1], headers=[("schema", schema)])

    done = [
        await handle(b"Order:1", b'{"no":1}'),
        await handle(b"Order:2", b'{"number":2}'),
    ]
    failed = await handle(b"Order:1", b"{}")
    broken = await handle(b"Order:1", b"{")

    assert done == [None, None]
    assert got == [Order(number=1), Order(number=2)]
    assert "has schema Order:1, and its upcaster failed: KeyError" in str(failed)
    assert "is not valid JSON" in str(broken)


async def test_an_upcaster_that_fails_is_the_failure_of_its_record() -> None:
    app = Application(plugins=[Upcasts()], entry_points=False)
    app.schema("Order", version=2)(Order)
    got = collect(app, Order)

    error = await handled(app, b'{"schema":"Order:1","data":{}}')
    missing = await handled(app, b'{"schema":"Order:1"}')
    other = await handled(app, b'{"schema":"Order:7","data":{"number":"x"}}')

    assert "orders[0]@0 has schema Order:1, and its upcaster failed: KeyError" in str(error)
    assert "data: Field required" in str(missing)
    assert "written as Order:7" in str(other)
    assert got == []


async def test_bytes_and_records_are_never_upcast() -> None:
    value = b'{"schema":"Order:1","data":{"no":1}}'
    for annotation in (bytes, Any):
        app = Application(plugins=[Upcasts()], entry_points=False)
        app.schema("Order", version=2)(Order)
        got = collect(app, annotation)

        assert await handled(app, value) is None
        assert got[0][2] == value
        assert got[0][1] == "Order:1"


async def test_a_plugin_whose_upcasters_are_none_stops_the_start() -> None:
    class Wrong:
        @hookimpl
        def upcasters(self, schema: SchemaRegistration, subscription: Subscription) -> Any:
            return {"Order:1": "later"}

    app = new_app(Wrong())
    collect(app, Order)

    with pytest.raises(Exception, match="upcasters returned dict, expected a mapping of functions"):
        await handled(app, b"{}")

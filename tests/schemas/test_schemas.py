"""Schemas: registration, the envelope, validation (S3, S9, S12, S13; D15, D16)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from inspect import Parameter
from typing import Any, Literal
from uuid import UUID

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from kafkaesk_core.errors import (
    DecodeError,
    InvalidMessageError,
    InvalidSchemaError,
    SchemaConflictError,
    SubscriptionError,
    UnknownSchemaError,
)
from kafkaesk_core.message import IncomingMessage, OutgoingMessage
from kafkaesk_core.schema.encoding import fast_validator
from kafkaesk_core.schema.registry import SchemaRegistration, Schemas
from kafkaesk_core.topics import Topics


class Content(BaseModel):
    foo: str


class ContentTwo(BaseModel):
    foo: str
    bar: int = 0


unchecked: Any = Content.model_construct  # takes what the model would not
unchecked_two: Any = ContentTwo.model_construct


class Item(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    sku: str = Field(alias="SKU")
    price: Decimal = Decimal(0)


class Rich(BaseModel):
    id: UUID
    at: datetime
    kind: Literal["a", "b"]
    items: list[Item] = []
    note: str | None = None
    ratio: float = 0.0
    by_name: dict[str, int] = {}


def registered(*pairs: tuple[str, int, Any]) -> Schemas:
    schemas = Schemas()
    for name, version, definition in pairs:
        is_model = isinstance(definition, type)
        schemas.register(
            SchemaRegistration(
                name,
                version,
                model=definition if is_model else None,
                document=None if is_model else definition,
            )
        )
    return schemas


def encode(
    schemas: Schemas,
    data: Any,
    schema: str | None = None,
    *,
    topics: Topics | None = None,
    validate: bool = True,
) -> dict[str, Any]:
    message = OutgoingMessage("stream", "topic", data, schema=schema)
    value = schemas.encoding(topics or Topics("", None), validate=validate)(message)
    assert value is not None
    decoded: dict[str, Any] = json.loads(value)
    assert decoded["schema"] == message.schema
    return decoded


def incoming(value: bytes | None) -> IncomingMessage:
    record = ConsumerRecord("topic", 0, 7, 0, 0, b"k", value, None, 1, 5, ())
    return IncomingMessage(record, "stream")


def envelope(schema: str, data: Any) -> IncomingMessage:
    return incoming(json.dumps({"schema": schema, "data": data}).encode())


# --- registration


def test_a_key_stands_for_one_declaration() -> None:
    schemas = registered(("Content", 1, Content), ("Content", 1, Content))

    assert [found.key for found in schemas] == ["Content:1"]
    with pytest.raises(SchemaConflictError, match=r"Content:1.*Content.*ContentTwo.*another model"):
        schemas.register(SchemaRegistration("Content", 1, model=ContentTwo))


class WithSecret(BaseModel):
    inner: list[SecretStr | None]


class WithExcluded(BaseModel):
    foo: str = Field(exclude=True)


class WithOtherAlias(BaseModel):
    foo: str = Field(validation_alias="in", serialization_alias="out")


@pytest.mark.d15
@pytest.mark.parametrize(
    ("model", "told"),
    [
        (WithSecret, r"WithSecret\.inner is a SecretStr, which is published as stars"),
        (WithExcluded, r"WithExcluded\.foo is required but has exclude=True.*default"),
        (WithOtherAlias, r"WithOtherAlias\.foo is published as 'out' but read as 'in'"),
    ],
)
def test_a_model_that_cannot_be_read_back_is_refused(model: type[BaseModel], told: str) -> None:
    with pytest.raises(InvalidSchemaError, match=told):
        registered(("Bad", 1, model))


def test_a_document_that_is_no_json_schema_is_refused() -> None:
    with pytest.raises(InvalidSchemaError, match="not a valid JSON Schema"):
        registered(("Bad", 1, {"type": "nothing"}))


class Ahead(BaseModel):
    later: Later
    others: list[Ahead] = []


AHEAD_COMPLETE_BEFORE = Ahead.__pydantic_complete__
EARLY = Schemas()
EARLY.register(SchemaRegistration("Ahead", model=Ahead))


class Later(BaseModel):
    number: int


def test_a_model_may_name_what_is_defined_below_it() -> None:
    assert not AHEAD_COMPLETE_BEFORE

    value = EARLY.encoding(Topics("", None), validate=True)(
        OutgoingMessage("stream", "topic", Ahead(later=Later(number=1)))
    )

    assert EARLY.decoder(Ahead)(incoming(value)) == Ahead(later=Later(number=1))


def test_a_model_that_names_what_is_nowhere_is_refused_when_publishing_starts() -> None:
    class Lost(BaseModel):
        other: Nowhere  # type: ignore[name-defined]  # noqa: F821 - that is the case tested

    schemas = registered(("Lost", 1, Lost))

    with pytest.raises(InvalidSchemaError, match=r"Lost:1: .*Lost names 'Nowhere', which is not"):
        schemas.encoding(Topics("", None), validate=True)


def test_a_model_that_is_complete_only_when_it_is_used_is_published() -> None:
    class First(BaseModel):
        second: Second

    schemas = Schemas()
    encode_now = schemas.encoding(Topics("", None), validate=True)
    schemas.register(SchemaRegistration("First", model=First))

    class Second(BaseModel):
        number: int

    instance = First(second=Second(number=1))

    assert encode_now(OutgoingMessage("stream", "topic", instance)) is not None


# --- out


@pytest.mark.s13
def test_the_envelope_is_exactly_this() -> None:
    message = OutgoingMessage("stream", "topic", Content(foo="bär"))

    value = registered(("Content", 3, Content)).encoding(Topics("", None), validate=True)(message)

    assert value == '{"schema":"Content:3","data":{"foo":"bär"}}'.encode()


def test_bytes_and_tombstones_stay_as_they_are() -> None:
    schemas, topics = Schemas(), Topics("", None)

    for data in (b"raw", None):
        message = OutgoingMessage("stream", "topic", data)
        assert schemas.encoding(topics, validate=True)(message) is data


@pytest.mark.s12
@pytest.mark.parametrize(
    "data",
    [
        unchecked(foo=5),
        unchecked(**{}),
        Content(foo="x").model_copy(update={"foo": None}),
    ],
)
def test_an_instance_that_does_not_satisfy_its_model_is_refused(data: Content) -> None:
    schemas = registered(("Content", 1, Content))

    with pytest.raises(InvalidMessageError, match=r"topic topic.*schema Content:1: foo: ") as told:
        encode(schemas, data)

    assert (told.value.schema, told.value.topic) == ("Content:1", "topic")


@pytest.mark.s12
def test_a_trusted_instance_is_not_validated() -> None:
    schemas = registered(("Content", 1, Content))

    assert encode(schemas, unchecked(foo=5), validate=False)["data"] == {"foo": 5}


@pytest.mark.s12
def test_a_dict_is_validated_against_the_model_or_the_document() -> None:
    document = {"type": "object", "properties": {"foo": {"type": "string"}}, "required": ["foo"]}
    schemas = registered(("Content", 1, Content), ("Doc", 1, document))

    assert encode(schemas, {"foo": "x"}, "Content:1")["data"] == {"foo": "x"}
    assert encode(schemas, {"foo": "x"}, "Doc:1")["data"] == {"foo": "x"}
    for key in ("Content:1", "Doc:1"):
        with pytest.raises(InvalidMessageError, match=key):
            encode(schemas, {"foo": 1}, key)
        with pytest.raises(InvalidMessageError, match=key):
            encode(schemas, {}, key)


@pytest.mark.s12
def test_an_unregistered_model_is_named_with_its_registered_parent() -> None:
    class Derived(Content):
        more: int = 0

    schemas = registered(("Content", 1, Content))

    with pytest.raises(UnknownSchemaError, match=r"Derived.*derives from Content.*Content:1"):
        encode(schemas, Derived(foo="x"))


@pytest.mark.s12
def test_an_unknown_version_lists_the_known_ones() -> None:
    schemas = registered(("Content", 1, Content), ("Content", 2, ContentTwo))

    with pytest.raises(UnknownSchemaError, match=r"'Content:9'.*Content:1, Content:2"):
        encode(schemas, {"foo": "x"}, "Content:9")


@pytest.mark.s12
def test_a_topic_carries_one_schema_in_any_version() -> None:
    class Other(BaseModel):
        foo: str

    schemas = registered(("Content", 1, Content), ("Content", 2, ContentTwo), ("Other", 1, Other))
    topics = Topics("", None)

    encode(schemas, Content(foo="x"), topics=topics)
    encode(schemas, ContentTwo(foo="x"), topics=topics)

    with pytest.raises(SchemaConflictError, match=r"topic carries schema 'Content'.*'Other'"):
        encode(schemas, Other(foo="x"), topics=topics)


@pytest.mark.s12
def test_a_refused_message_does_not_claim_its_topic() -> None:
    schemas = registered(("Content", 1, Content))
    topics = Topics("", None)

    with pytest.raises(InvalidMessageError):
        encode(schemas, unchecked(foo=5), topics=topics)

    assert topics.schema_of("topic") is None


@pytest.mark.s3
def test_the_schema_may_be_left_out_where_the_topic_carries_one() -> None:
    schemas = registered(("Content", 1, Content), ("Content", 2, ContentTwo))
    topics = Topics("", None)

    with pytest.raises(UnknownSchemaError, match="names no schema and the topic carries none"):
        encode(schemas, {"foo": "x"}, topics=topics)
    topics.claim("topic", "Content")

    assert encode(schemas, {"foo": "x"}, topics=topics)["schema"] == "Content:2"


def test_a_model_of_several_versions_publishes_its_latest() -> None:
    schemas = registered(("Content", 2, Content), ("Content", 1, Content))

    assert encode(schemas, Content(foo="x"))["schema"] == "Content:2"
    assert encode(schemas, Content(foo="x"), "Content:1")["schema"] == "Content:1"


@pytest.mark.d15
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    class Measured(BaseModel):
        value: float | None = None

    schemas = registered(("Measured", 1, Measured), ("Doc", 1, {}))

    with pytest.raises(InvalidMessageError, match="value: JSON has no NaN"):
        encode(schemas, Measured(value=number))
    with pytest.raises(InvalidMessageError, match="value: JSON has no NaN"):
        encode(schemas, {"value": number}, "Doc:1")
    assert encode(schemas, Measured(value=None))["data"] == {"value": None}


@given(st.text(min_size=12, alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)))
def test_errors_never_repeat_what_is_in_a_message(secret: str) -> None:
    document = {"properties": {"foo": {"type": "integer", "enum": [1]}}}
    schemas = registered(("Content", 1, ContentTwo), ("Doc", 1, document))
    attempts: list[tuple[Any, str | None]] = [
        (unchecked_two(foo="x", bar=secret), None),
        ({"foo": "x", "bar": secret}, "Content:1"),
        ({"foo": secret}, "Doc:1"),
    ]

    for data, key in attempts:
        with pytest.raises(InvalidMessageError) as raised:
            encode(schemas, data, key)
        assert secret not in str(raised.value)


ITEMS = st.builds(Item, sku=st.text(), price=st.decimals(allow_nan=False, allow_infinity=False))
RICH = st.builds(
    Rich,
    id=st.uuids(),
    at=st.datetimes(timezones=st.just(UTC)),
    kind=st.sampled_from(["a", "b"]),
    items=st.lists(ITEMS, max_size=3),
    note=st.none() | st.text(),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    by_name=st.dictionaries(st.text(), st.integers(-(2**60), 2**60), max_size=3),
)


@given(RICH)
def test_what_is_published_is_what_is_consumed(rich: Rich) -> None:
    schemas = registered(("Rich", 1, Rich))
    message = OutgoingMessage("stream", "topic", rich)

    value = schemas.encoding(Topics("", None), validate=True)(message)

    assert schemas.decoder(Rich)(incoming(value)) == rich


class Checked(BaseModel):
    foo: str

    @field_validator("foo")
    @classmethod
    def not_bad(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("bad")
        return value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats(-5, 5) | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=2)
        | st.dictionaries(
            st.sampled_from(["foo", "bar", "SKU", "price", "x"]), children, max_size=3
        )
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("model", [Content, ContentTwo, Item, Checked, Rich])
@given(document=JSON)
def test_the_cheaper_validator_says_what_the_model_says(
    model: type[BaseModel], document: Any
) -> None:
    data = json.dumps(document).encode()

    def is_accepted(validate: Any) -> bool:
        try:
            validate(data)
        except ValueError:
            return False
        return True

    assert is_accepted(fast_validator(model)) == is_accepted(model.model_validate_json)


# --- in


@pytest.mark.s9
def test_a_registered_model_takes_its_schema_in_any_version() -> None:
    schemas = registered(("Content", 1, Content), ("Content", 2, ContentTwo))
    decode = schemas.decoder(Content)

    assert decode(envelope("Content:2", {"foo": "x", "bar": 1})) == Content(foo="x")
    with pytest.raises(InvalidMessageError, match=r"topic\[0\]@7 has schema Other:1.*Content"):
        decode(envelope("Other:1", {"foo": "x"}))
    with pytest.raises(InvalidMessageError, match=r"topic\[0\]@7 .*foo: .*\(schema Content:1\)"):
        decode(envelope("Content:1", {"foo": 5}))


class Renamed(BaseModel):
    name: str


@pytest.mark.s9
def test_a_record_of_another_version_says_what_is_missing_and_what_helps() -> None:
    schemas = registered(("Content", 1, Content), ("Content", 2, Renamed), ("Content", 4, Renamed))
    read_new, read_old = schemas.decoder(Renamed), schemas.decoder(Content)

    with pytest.raises(InvalidMessageError) as older:
        read_new(envelope("Content:1", {"foo": "x"}))
    with pytest.raises(InvalidMessageError) as newer:
        read_old(envelope("Content:4", {"name": "x"}))
    with pytest.raises(InvalidMessageError) as same:
        read_new(envelope("Content:4", {"foo": "x"}))

    assert str(older.value) == (
        "topic[0]@7 does not satisfy its handler's model: it was written as Content:1, and the "
        "model is Content:2 and Content:4: data.name: Field required; bring Content:1 up to date "
        "with upcast() of kafkaesk-schemas, or annotate the parameter with a union of both models "
        "(schema Content:1)"
    )
    assert (
        "written as Content:4, and the model is Content:1: data.foo: Field required; update the "
        "handler to a model that reads Content:4, or annotate" in str(newer.value)
    )
    assert "union" not in str(same.value)
    assert (
        "model: data.name: Field required; its writer has another Content:4: give the changed "
        "model a version of its own, or the new field a default (schema Content:4)"
        in str(same.value)
    )


@pytest.mark.s9
@pytest.mark.parametrize("schema", ["Content", "Content:x", "Content:", "Content:1:2"])
def test_a_version_that_is_no_number_is_an_older_one(schema: str) -> None:
    decode = registered(("Content", 2, Renamed)).decoder(Renamed)

    with pytest.raises(InvalidMessageError, match=f"written as {schema}, and the model is"):
        decode(envelope(schema, {"foo": "x"}))


@pytest.mark.s9
def test_an_unregistered_model_takes_what_has_its_shape() -> None:
    decode = Schemas().decoder(Content)

    assert decode(envelope("Whatever:7", {"foo": "x", "more": 1})) == Content(foo="x")


@pytest.mark.s9
def test_a_union_is_chosen_by_the_schema() -> None:
    schemas = registered(("Content", 1, Content), ("Content", 2, ContentTwo), ("Item", 1, Item))
    decode = schemas.decoder(ContentTwo | Content | Item)

    assert decode(envelope("Content:1", {"foo": "x"})) == Content(foo="x")
    assert decode(envelope("Content:2", {"foo": "x"})) == ContentTwo(foo="x")
    assert isinstance(decode(envelope("Item:1", {"SKU": "x"})), Item)
    with pytest.raises(InvalidMessageError, match=r"Other:1.*Content:1, Content:2, Item:1"):
        decode(envelope("Other:1", {}))


@pytest.mark.s9
def test_the_other_annotations() -> None:
    schemas = Schemas()
    message = envelope("Content:1", {"foo": "x"})

    assert schemas.decoder(bytes)(message) == message.value
    assert schemas.decoder(ConsumerRecord)(message) is message.record
    assert schemas.decoder(Parameter.empty)(message) == {
        "schema": "Content:1",
        "data": {"foo": "x"},
    }
    assert schemas.decoder(dict[str, str])(message) == {"foo": "x"}


@pytest.mark.rule_29
def test_a_tombstone_is_a_message_where_the_handler_says_so() -> None:
    schemas = registered(("Content", 1, Content))

    assert schemas.decoder(Content | None)(incoming(None)) is None
    assert schemas.decoder(bytes)(incoming(None)) is None
    assert schemas.decoder(Parameter.empty)(incoming(None)) is None
    with pytest.raises(DecodeError, match=r"topic\[0\]@7 is a tombstone.*Model \| None"):
        schemas.decoder(Content)(incoming(None))


@pytest.mark.u21
@pytest.mark.parametrize(
    "value", [b"", b"no json", b"[]", b"{}", b'{"data":{}}', b'{"schema":1,"data":{}}', b"\xff"]
)
def test_what_is_no_envelope_is_told_with_its_place(value: bytes) -> None:
    with pytest.raises((DecodeError, InvalidMessageError), match=r"topic\[0\]@7"):
        registered(("Content", 1, Content)).decoder(Content)(incoming(value))


@pytest.mark.parametrize("annotation", [list[Content], list, type("Unknown", (), {})])
def test_an_annotation_that_cannot_be_decoded_to_is_refused(annotation: Any) -> None:
    with pytest.raises(SubscriptionError, match="annotate the first parameter"):
        Schemas().decoder(annotation)

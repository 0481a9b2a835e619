"""What is published is what the handler gets, or it is refused with its field (D15; S12)."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    PydanticUserError,
    RootModel,
    SerializeAsAny,
    computed_field,
    create_model,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

from kafkaesk_core.errors import InvalidMessageError, InvalidSchemaError
from kafkaesk_core.message import IncomingMessage, OutgoingMessage
from kafkaesk_core.schema.registry import SchemaRegistration, Schemas
from kafkaesk_core.schema.round_trip import find_differences, is_exact
from kafkaesk_core.topics import Topics

# Any in this file: data of all kinds.


class Color(enum.Enum):
    RED = "red"
    ONE = 1


class Item(BaseModel):
    sku: str = Field(alias="SKU")
    price: Decimal = Decimal(0)


class Parent(BaseModel):
    number: int = 0


class Child(Parent):
    more: int = 0


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


class Free(BaseModel):
    model_config = ConfigDict(extra="allow")


class Numbers(RootModel[list[int]]):
    pass


class Fields(TypedDict):
    number: int
    names: list[str]


@dataclasses.dataclass
class Point:
    x: float
    at: datetime | None = None


FINITE = st.floats(allow_nan=False, allow_infinity=False)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(timezones=st.just(UTC)) | st.datetimes()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FINITE | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
ODD = st.one_of(
    *(st.floats(), st.decimals(), st.binary(max_size=3), MOMENTS, st.uuids(), st.timedeltas()),
    *(st.tuples(st.integers()), st.frozensets(st.integers(), max_size=2), st.builds(Parent)),
    st.builds(deque, st.lists(st.floats(), max_size=2)),
    st.dictionaries(st.integers(), st.floats(), max_size=2),
    st.builds(Child, more=st.integers(0, 1)),
)
PETS = st.builds(Cat, lives=st.integers()) | st.builds(Dog, tricks=st.lists(st.text(), max_size=2))
INTEGERS = st.integers(-(2**70), 2**70)

KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (int, INTEGERS),
    (float, st.floats()),
    (float | None, st.none() | st.floats()),
    (Annotated[Decimal, Field(allow_inf_nan=True)], DECIMALS | st.just(Decimal("inf"))),
    (str, st.text()),
    (bytes, st.binary()),
    (bytes | None, st.none() | st.binary()),
    (list[bytes], st.lists(st.binary(max_size=3), max_size=2)),
    (date, st.dates()),
    (time, st.times()),
    (datetime, MOMENTS),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (IPv4Address, st.ip_addresses(v=4)),
    (PurePosixPath, st.builds(PurePosixPath, st.sampled_from(["a", "/a/b"]))),
    (complex, st.complex_numbers()),
    (list[float], st.lists(st.floats(), max_size=3)),
    (set[int], st.sets(INTEGERS, max_size=3)),
    (frozenset[str], st.frozensets(st.text(), max_size=3)),
    (set[datetime], st.sets(MOMENTS, max_size=2)),
    (deque[float], st.builds(deque, st.lists(st.floats(), max_size=3))),
    (tuple[int, str], st.tuples(INTEGERS, st.text())),
    (tuple[float, ...], st.lists(st.floats(), max_size=3).map(tuple)),
    (Sequence[int], st.lists(st.integers(), max_size=2) | st.tuples(st.integers())),
    (Iterable[int], st.lists(st.integers(), max_size=2)),
    (dict[str, float], st.dictionaries(st.text(), st.floats(), max_size=3)),
    (dict[int, str], st.dictionaries(INTEGERS, st.text(), max_size=3)),
    (dict[float, str], st.dictionaries(st.floats(), st.text(), max_size=3)),
    (
        dict[tuple[int, int], str],
        st.dictionaries(st.tuples(st.integers(), st.integers()), st.text(), max_size=1),
    ),
    (dict[bytes, int], st.dictionaries(st.binary(max_size=3), st.integers(), max_size=2)),
    (int | str, st.integers() | st.text() | st.integers().map(str)),
    (float | int | None, st.none() | st.integers() | st.floats()),
    (bool | int | str, st.booleans() | st.integers() | st.text()),
    (datetime | str, MOMENTS | MOMENTS.map(str) | st.text()),
    (UUID | str, st.uuids() | st.uuids().map(str)),
    (Decimal | float, DECIMALS | FINITE),
    (Decimal | str, DECIMALS | DECIMALS.map(str)),
    (bytes | str, st.binary() | st.text()),
    (list[int] | set[int] | tuple[int, ...], st.lists(st.integers()) | st.sets(st.integers())),
    (date | datetime, st.dates() | MOMENTS),
    (int | timedelta, st.integers() | st.timedeltas()),
    (Item, st.builds(Item, SKU=st.text(), price=DECIMALS)),
    (list[Item | None], st.lists(st.none() | st.builds(Item, SKU=st.text()), max_size=2)),
    (Parent, st.builds(Parent) | st.builds(Child, more=st.integers())),
    (SerializeAsAny[Parent], st.builds(Parent) | st.builds(Child, more=st.integers())),
    (Parent | Child, st.builds(Parent) | st.builds(Child, more=st.integers())),
    (Cat | Dog, PETS),
    (Annotated[Cat | Dog, Field(discriminator="kind")], PETS),
    (Free, st.builds(lambda value: Free(any=value), JSON | ODD)),
    (Numbers, st.builds(Numbers, st.lists(st.integers(), max_size=3))),
    (Fields, st.fixed_dictionaries({"number": st.integers(), "names": st.lists(st.text())})),
    (Point, st.builds(Point, st.floats(), st.none() | MOMENTS)),
    (Any, JSON | ODD),
    (dict[str, Any], st.dictionaries(st.text(), JSON | ODD, max_size=2)),
    (object, JSON | ODD),
    (Annotated[int, AfterValidator(lambda x: x * 2)], st.integers()),
    (Annotated[float, PlainSerializer(round)], FINITE),
    (
        Annotated[datetime, PlainSerializer(datetime.timestamp)],
        st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 2)),
    ),
]

CONFIGS: list[ConfigDict] = [
    ConfigDict(),
    ConfigDict(strict=True),
    ConfigDict(frozen=True),
    ConfigDict(extra="forbid"),
    ConfigDict(extra="allow"),
    ConfigDict(use_enum_values=True),
    ConfigDict(ser_json_bytes="base64"),
    ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"),
    ConfigDict(ser_json_bytes="hex", val_json_bytes="base64"),
    ConfigDict(val_json_bytes="hex"),
    ConfigDict(ser_json_timedelta="float"),
    ConfigDict(ser_json_inf_nan="strings"),
    ConfigDict(ser_json_inf_nan="constants"),
    ConfigDict(str_to_lower=True, str_strip_whitespace=True),
    ConfigDict(coerce_numbers_to_str=True),
    ConfigDict(alias_generator=str.upper, populate_by_name=True),
    ConfigDict(revalidate_instances="always"),
    ConfigDict(validate_default=True, validate_assignment=True, arbitrary_types_allowed=True),
]


def incoming(value: bytes | None) -> IncomingMessage:
    return IncomingMessage(ConsumerRecord("topic", 0, 7, 0, 0, b"k", value, None, 1, 5, ()), "s")


def published(schemas: Schemas, data: Any, schema: str | None = None) -> bytes | None:
    message = OutgoingMessage("stream", "topic", data, schema=schema)
    return schemas.encoding(Topics("", None), validate=True)(message)


def registered(model: type[BaseModel]) -> Schemas:
    schemas = Schemas()
    schemas.register(SchemaRegistration("Tried", model=model))
    return schemas


@functools.cache
def tried(kind: int, config: int) -> tuple[type[BaseModel], Schemas | str] | None:
    """A model with a field of the kind, and its schemas, or why they refuse it.

    None if pydantic does not take it.
    """
    fields: Any = {"tried": (KINDS[kind][0], ...), "other": (int | None, None)}
    try:
        model: type[BaseModel] = create_model("Tried", __config__=CONFIGS[config], **fields)
    except (ValueError, TypeError, PydanticUserError):
        return None
    try:
        return model, registered(model)
    except InvalidSchemaError as error:
        return model, str(error)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=lambda kind: f"{kind}")
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)
@given(data=st.data(), config=st.integers(0, len(CONFIGS) - 1))
def test_what_is_published_is_what_is_consumed_or_names_its_field(
    kind: int, config: int, data: Any
) -> None:
    """`decode(encode(x)) == x`, or an error at registration or publish that names the field.

    Covers every pair of the kinds of fields and the configurations above: scalars, containers,
    keys of dictionaries, unions whose members look alike in JSON, models (nested, derived,
    discriminated, with extra fields, root models), typed dictionaries, dataclasses, enums, `Any`
    with values that JSON does not have, validators and serializers that do not fit each other;
    strict, frozen, aliases, extra, and all ways in which pydantic writes bytes, durations and
    NaN. Instances are valid: made by the model's own validation.

    Two NaN are the same value here. Excluded fields and private attributes are not published.
    """
    found = tried(kind, config)
    if found is None:
        return
    model, schemas = found
    if isinstance(schemas, str):
        assert re.search(r"Tried.*; (use|set|give)", schemas), schemas
        return
    drawn = data.draw(KINDS[kind][1])
    try:
        instance = model.model_validate({"tried": drawn, "TRIED": drawn})
    except ValueError:
        return  # the model does not take the value

    value, refused = attempted(schemas, instance)
    if refused:
        assert "tried" in refused.lower(), refused
        return
    got = schemas.decoder(model)(incoming(value))

    json.loads(value or b"", parse_constant=lambda constant: pytest.fail(constant))
    assert got == instance or not list(find_differences(instance, got))


def attempted(schemas: Schemas, data: Any) -> tuple[bytes | None, str]:
    try:
        return published(schemas, data), ""
    except InvalidMessageError as error:
        return None, str(error)


def test_most_kinds_of_fields_need_no_comparison() -> None:
    class Plain(BaseModel):
        id: UUID
        at: datetime
        kind: Color | None = None
        items: list[Item] = []
        pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
        ratio: float | None = None
        by_name: dict[str, set[int]] = {}
        label: int | str = ""

    assert is_exact(Plain)
    assert not any(is_exact(model) for model in (Free, create_model("M", x=(Any, ...))))


class Masked(BaseModel):
    card: str

    @field_serializer("card")
    def mask(self, card: str) -> str:
        return "****"


class Renamed(BaseModel):
    number: int

    @model_serializer
    def as_text(self) -> dict[str, int]:
        return {"number": self.number + 1}


class Doubled(BaseModel):
    number: Annotated[int, AfterValidator(lambda x: x * 2)]


class Reset(BaseModel):
    number: int
    squared: int = 0

    def model_post_init(self, context: object) -> None:
        self.squared += 1


@pytest.mark.parametrize(
    ("instance", "told"),
    [
        (Masked(card="4711"), r"card: would arrive with another value"),
        (Renamed(number=1), r"number: would arrive with another value"),
        (Doubled(number=1), r"number: would arrive with another value"),
        (Reset(number=1), r"squared: would arrive with another value"),
        (Free(a=[1, {"b": float("inf")}]), r"a\.1\.b: JSON has no NaN"),
        (Free(a=(1,)), r"a: a tuple would arrive as a list; annotate each"),
        (create_model("M", x=(list[Parent], ...))(x=[Child()]), r"x\.0: a Child would arrive as a"),
        (create_model("M", x=(bytes, ...))(x=b"\xff"), r"x: cannot be serialised.*ser_json_bytes"),
        (
            create_model("M", x=(dict[str, Any], ...))(x={"a": (float("nan"),)}),
            r"x\.a\.0: JSON",
        ),
    ],
)
def test_what_would_arrive_as_something_else_is_refused(instance: BaseModel, told: str) -> None:
    with pytest.raises(InvalidMessageError, match=told):
        published(registered(type(instance)), instance)


def test_what_is_not_published_is_not_compared() -> None:
    class Cached(BaseModel):
        data: Any
        cache: int = Field(default=0, exclude=True)
        _private: int = PrivateAttr(0)

    instance = Cached(data=1, cache=5)
    instance._private = 7

    assert published(registered(Cached), instance) is not None


class Computed(BaseModel):
    model_config = ConfigDict(extra="allow")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def total(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            create_model("M", __config__=ConfigDict(ser_json_bytes="base64"), x=(list[bytes], ...)),
            r"M\.x is bytes, published as 'base64' and read as 'utf8'; set",
        ),
        (Computed, r"extra='allow' and would keep as data its own computed fields \(total\)"),
    ],
)
def test_a_configuration_that_cannot_be_read_back_is_refused(
    model: type[BaseModel], told: str
) -> None:
    with pytest.raises(InvalidSchemaError, match=told):
        registered(model)


def _generated() -> Iterator[float]:
    yield float("nan")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"a": deque([1.0, float("inf")])}, r"a\.1"),
        ({"a": {"b": (float("nan"),)}}, r"a\.b\.0"),
        ({"a": Free(b=float("-inf"))}, r"a\.b"),
        ({"a": Point(float("nan"))}, r"a\.x"),
        ({"a": _generated()}, r"a\.0"),
        ({"a": {"b": frozenset([float("inf")])}}, r"a\.b\.0"),
        ({"a": [Decimal("NaN")]}, r"a\.0"),
    ],
)
def test_numbers_that_json_does_not_have_are_refused_in_any_container(data: Any, path: str) -> None:
    schemas = Schemas()
    schemas.register(SchemaRegistration("Doc", document={}))
    schemas.register(SchemaRegistration("Free", model=Free))

    with pytest.raises(InvalidMessageError, match=f"{path}: JSON has no NaN"):
        published(schemas, data, "Doc:1")


def test_texts_that_look_like_numbers_are_published() -> None:
    schemas = Schemas()
    schemas.register(SchemaRegistration("Doc", document={}))

    assert published(schemas, {"a": "NaN, Infinity"}, "Doc:1") is not None

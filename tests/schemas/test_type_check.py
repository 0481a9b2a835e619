"""The look at an instance in place of parsing its JSON: it never says yes to what is refused."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    computed_field,
    field_serializer,
    field_validator,
)

from kafkaesk_core.schema.encoding import ModelEncoder
from kafkaesk_core.schema.registry import SchemaRegistration
from kafkaesk_core.schema.type_check import make_type_check

# Any in this file: values of all kinds, right and wrong.


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1


class Item(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    id: UUID
    number: int
    is_paid: bool
    total: float
    day: date
    at: datetime
    first: Item
    items: list[Item] = []
    prices: dict[str, float] = {}
    nested: dict[str, list[Item | None]] = {}
    note: str | None = None
    color: Color = Color.RED
    kind: Literal["new", "old"] = "new"


class IntText(int):
    """An integer that writes itself otherwise."""


class SpecialItem(Item):
    price: float = 0.0


ZONES: st.SearchStrategy[Any] = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=5, minutes=30))]
)
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**4400, -(2**63) - 1, 2**63, IntText(3), 2**63 - 1, -(2**63)]),
    st.floats(),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(timezones=ZONES),
    st.sampled_from([date(999, 1, 1), datetime(1, 1, 1), datetime(1, 1, 1, tzinfo=UTC)]),
    st.uuids(),
    st.sampled_from([*Color, *Size, "new", "other", "\ud800", math.nan, math.inf, -0.0]),
    st.builds(Item, sku=st.text(), count=st.integers()),
    st.builds(SpecialItem, sku=st.text()),
    st.builds(Item.model_construct, sku=st.integers(), count=st.text()),
    st.lists(st.builds(Item, sku=st.text())),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.floats()),
    st.dictionaries(st.integers(), st.floats()),
    st.just(OrderedDict(a=1.0)),
    st.just(()),
)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "id": st.uuids(),
    "number": st.integers(-(2**63), 2**63 - 1),
    "is_paid": st.booleans(),
    "total": st.floats(allow_nan=False, allow_infinity=False),
    "day": st.dates(min_value=date(1000, 1, 1)),
    "at": st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.sampled_from([None, UTC])),
    "first": st.builds(Item, sku=st.text()),
    "items": st.lists(st.builds(Item, sku=st.text())),
    "prices": st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    "nested": st.dictionaries(st.text(), st.lists(st.none() | st.builds(Item, sku=st.text()))),
    "note": st.none() | st.text(),
    "color": st.sampled_from(Color),
    "kind": st.sampled_from(["new", "old"]),
}
check = make_type_check(Order)


@given(st.fixed_dictionaries(RIGHT))
def test_an_instance_as_it_was_validated_is_proved_sound(values: dict[str, Any]) -> None:
    assert check is not None

    assert check(Order(**values)) is True


@given(st.fixed_dictionaries(RIGHT), st.dictionaries(st.sampled_from([*RIGHT]), WRONG, min_size=1))
def test_a_yes_implies_that_the_validator_accepts(
    right: dict[str, Any], wrong: dict[str, object]
) -> None:
    """Instances that were changed after their validation, or made without one."""
    assert check is not None
    values: dict[str, Any] = {**right, **wrong}
    order = Order.model_construct(**values)

    if check(order):
        read = Order.model_validate_json(order.model_dump_json())
        assert read == order


encoder = ModelEncoder(Order, SchemaRegistration("Order", 1, Order))
encode_trusted, encode_validated = (encoder.for_topic("orders", choice) for choice in (False, True))


@given(st.fixed_dictionaries(RIGHT), st.dictionaries(st.sampled_from([*RIGHT]), WRONG))
def test_the_encoder_of_one_topic_writes_what_the_encoder_of_all_writes(
    right: dict[str, Any], wrong: dict[str, object]
) -> None:
    values: dict[str, Any] = {**right, **wrong}
    order = Order.model_construct(**values)

    def written(encode: Callable[..., bytes], **options: Any) -> bytes | None:
        try:
            return encode(order, **options)
        except Exception:
            return None

    for encode, validate in ((encode_trusted, False), (encode_validated, True)):
        assert written(encode) == written(encoder.encode, topic="orders", validate=validate)


@given(st.sampled_from([*RIGHT]), WRONG)
def test_a_no_is_no_more_than_a_question_to_the_validator(name: str, wrong: object) -> None:
    """It never raises, whatever a field holds."""
    assert check is not None

    values: dict[str, Any] = {name: wrong}
    assert check(Order.model_construct(**values)) is False


def test_a_changed_nested_value_is_seen() -> None:
    assert check is not None
    order = Order(
        id=uuid4(),
        number=1,
        is_paid=True,
        total=1.0,
        day=date(2000, 1, 1),
        at=datetime(2000, 1, 1, tzinfo=UTC),
        first=Item(sku="a"),
        items=[Item(sku="b")],
    )

    assert check(order)
    order.items[0].count = "many"  # type: ignore[assignment]  # what is tried

    assert not check(order)


class Bounded(BaseModel):
    number: int = Field(gt=0)


class Renamed(BaseModel):
    number: int = Field(alias="Number")


class Validated(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def even(cls, value: int) -> int:
        return value


class Serialized(BaseModel):
    number: int

    @field_serializer("number")
    def text(self, value: int) -> str:
        return f"no. {value}"


class Computed(BaseModel):
    number: int

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def double(self) -> int:
        return 2 * self.number


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date


class Short(BaseModel):
    model_config = ConfigDict(str_max_length=3)
    text: str


class Hidden(BaseModel):
    number: int = Field(exclude=True, default=1)


class Text(RootModel[str]):
    pass


class Initialised(BaseModel):
    number: int

    def model_post_init(self, context: Any) -> None:
        pass


class Anything(BaseModel):
    data: Any


class Numbered(BaseModel):
    size: Size
    one: Literal[1] = 1


class Keys(BaseModel):
    by_number: dict[int, str]


class Tree(BaseModel):
    children: list[Tree] = []


class Sized(BaseModel):
    items: Annotated[list[int], Field(max_length=2)]


@pytest.mark.parametrize(
    "model",
    [
        *(Bounded, Renamed, Validated, Serialized, Computed, Extra, Strict, Short, Hidden, Text),
        *(Initialised, Anything, Numbered, Keys, Tree, Sized),
    ],
)
def test_what_types_cannot_prove_is_left_to_the_validator(model: type[BaseModel]) -> None:
    assert make_type_check(model) is None


def test_a_model_that_forbids_extra_fields_is_proved_like_another() -> None:
    class Closed(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        number: int

    proves = make_type_check(Closed)

    assert proves is not None
    assert proves(Closed(number=1))
    with pytest.raises(ValidationError):
        Closed.model_validate_json(b'{"number":1,"more":2}')


def test_more_than_ten_fields_and_levels_do_not_mix_their_values() -> None:
    class Many(BaseModel):
        a1: Item
        a2: list[list[Item]]
        a3: dict[str, dict[str, Item]]
        a4: Item
        a5: str

    proves = make_type_check(Many)
    item = Item(sku="a")
    many = Many(a1=item, a2=[[item]], a3={"a": {"b": item}}, a4=item, a5="x")

    assert proves is not None
    assert proves(many)
    many.a3["a"]["b"] = "wrong"  # type: ignore[assignment]  # what is tried
    assert not proves(many)

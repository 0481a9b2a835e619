"""Changes of a model as services make them, with the answer and the reason that is right.

A change names the fields of version 1 and of version 2. `backward` is why version 2 cannot read
what version 1 writes, `forward` why version 1 cannot read what version 2 writes: a path and a part
of the reason, or None where everything is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    RootModel,
    create_model,
    field_validator,
)

# Any in this file: annotations of many kinds.
Reason = tuple[str, str] | None


class Change(NamedTuple):
    old: type[BaseModel]
    new: type[BaseModel]
    backward: Reason
    forward: Reason


def model(_extra: str = "ignore", /, **fields: Any) -> type[BaseModel]:
    """A model; a field is its type, or its type and its default."""
    full = {name: each if isinstance(each, tuple) else (each, ...) for name, each in fields.items()}
    config: Any = {"extra": _extra}
    options: Any = {"__config__": config, **full}
    made: type[BaseModel] = create_model("Order", **options)
    return made


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class MoreColours(Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Line(BaseModel):
    article: str


class PricedLine(Line):
    price: int


class OptionalLine(Line):
    price: int = 0


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Cash(BaseModel):
    kind: Literal["cash"]


class Voucher(BaseModel):
    kind: Literal["voucher"]
    code: int


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class NumberedTree(BaseModel):
    name: str
    number: int
    children: list[NumberedTree] = []


class Lines(RootModel[list[Line]]):
    pass


class FewLines(RootModel[Annotated[list[Line], Field(max_length=2)]]):
    pass


class Plain(BaseModel):
    article: str


class Careful(BaseModel):
    article: str

    @field_validator("article")
    @classmethod
    def is_upper(cls, value: str) -> str:
        if not value.isupper():
            raise ValueError("articles are in capitals")
        return value


PAYMENT = Annotated[Card | Cash, Field(discriminator="kind")]
MORE_PAYMENT = Annotated[Card | Cash | Voucher, Field(discriminator="kind")]
CONVERTED = "read all the same: converted"
"""Not known to be right: no message is refused, and the reader makes something else of it."""
MISSING, REFUSED = "required, and not written", "refused by the reader"

CHANGES: Mapping[str, Change] = {
    "nothing": Change(model(a=int), model(a=int), None, None),
    "an optional field is added": Change(model(a=int), model(a=int, b=(int, 0)), None, None),
    "a required field is added": Change(model(a=int), model(a=int, b=int), ("b", MISSING), None),
    "a required field is removed": Change(model(a=int, b=int), model(a=int), None, ("b", MISSING)),
    "an optional field is removed": Change(model(a=int, b=(int, 0)), model(a=int), None, None),
    "a field becomes optional": Change(model(a=int), model(a=(int, 1)), None, None),
    "a field becomes nullable": Change(
        model(a=int), model(a=int | None), None, ("a", "null is written")
    ),
    "a field is no longer nullable": Change(
        model(a=int | None), model(a=int), ("a", "null is written"), None
    ),
    "a field is renamed": Change(model(a=int), model(b=int), ("b", MISSING), ("a", MISSING)),
    "a field is renamed and read by both names": Change(
        model(a=int),
        model(b=(int, Field(validation_alias=AliasChoices("b", "a")))),
        None,
        ("a", MISSING),
    ),
    "an alias is changed": Change(
        model(a=(int, Field(alias="A"))),
        model(a=(int, Field(alias="B"))),
        ("B", MISSING),
        ("A", MISSING),
    ),
    "extra fields are forbidden and none is removed": Change(
        model(a=int), model("forbid", a=int), None, None
    ),
    "extra fields are forbidden and one is removed": Change(
        model(a=int, b=int), model("forbid", a=int), ("b", REFUSED), ("b", MISSING)
    ),
    "extra fields are forbidden and one is added": Change(
        model("forbid", a=int), model("forbid", a=int, b=(int, 0)), None, ("b", REFUSED)
    ),
    "an enum becomes wider": Change(
        model(a=Colour), model(a=MoreColours), None, ("a", '"green" is written')
    ),
    "an enum becomes narrower": Change(
        model(a=MoreColours), model(a=Colour), ("a", '"green" is written'), None
    ),
    "a text becomes an enum": Change(
        model(a=str), model(a=Colour), ("a", 'only "red", "blue" are read'), None
    ),
    "an integer becomes a float": Change(
        model(a=int), model(a=float), None, ("a", "as a number, and read as an integer")
    ),
    "an integer becomes a text": Change(
        model(a=int),
        model(a=str),
        ("a", "as an integer, and read as a string"),
        ("a", "as a string, and read as an integer"),
    ),
    "an integer becomes a union": Change(
        model(a=int), model(a=int | str), None, ("a", "as a string, and read as an integer")
    ),
    "a text becomes a time": Change(
        model(a=str), model(a=datetime), ("a", "format 'date-time' is required"), None
    ),
    "a time becomes a date": Change(
        model(a=datetime), model(a=date), ("a", "format 'date' is required"), ("a", CONVERTED)
    ),
    "a text becomes a UUID": Change(
        model(a=str), model(a=UUID), ("a", "format 'uuid' is required"), None
    ),
    "a minimum is added": Change(
        model(a=int), model(a=Annotated[int, Field(ge=1)]), ("a", "at least 1 is required"), None
    ),
    "a minimum is raised": Change(
        model(a=Annotated[int, Field(gt=0)]),
        model(a=Annotated[int, Field(gt=5)]),
        ("a", "above 5 is required"),
        None,
    ),
    "a bound is said in another way": Change(
        model(a=Annotated[int, Field(gt=0)]), model(a=Annotated[int, Field(ge=1)]), None, None
    ),
    "a decimal gets a minimum": Change(
        model(a=Decimal),
        model(a=Annotated[Decimal, Field(ge=0)]),
        ("a", "at least 0"),
        None,
    ),
    "a step becomes finer": Change(
        model(a=Annotated[int, Field(multiple_of=4)]),
        model(a=Annotated[int, Field(multiple_of=2)]),
        None,
        ("a", "a multiple of 4 is required"),
    ),
    "a text gets a longest length": Change(
        model(a=str), model(a=Annotated[str, Field(max_length=3)]), ("a", "at most 3"), None
    ),
    "a text gets a pattern": Change(
        model(a=str),
        model(a=Annotated[str, Field(pattern="^[A-Z]+$")]),
        ("a", "pattern '^[A-Z]+$' is required"),
        None,
    ),
    "a list gets a longest length": Change(
        model(a=list[int]),
        model(a=Annotated[list[int], Field(max_length=2)]),
        ("a", "at most 2 items"),
        None,
    ),
    "a value becomes a list": Change(
        model(a=int),
        model(a=list[int]),
        ("a", "as an integer, and read as an array"),
        ("a", "as an array, and read as an integer"),
    ),
    "items get a required field": Change(
        model(a=list[Line]), model(a=list[PricedLine]), ("a[].price", MISSING), None
    ),
    "items get an optional field": Change(
        model(a=list[Line]), model(a=list[OptionalLine]), None, None
    ),
    "values of a dictionary get a required field": Change(
        model(a=dict[str, Line]), model(a=dict[str, PricedLine]), ("a.*.price", MISSING), None
    ),
    "a discriminated union gets a member": Change(
        model(a=PAYMENT), model(a=MORE_PAYMENT), None, ("a.kind", '"voucher" is written')
    ),
    "a union without a discriminator gets a member": Change(
        model(a=Line | None), model(a=Line | int | None), None, ("a", "as an integer")
    ),
    "a model becomes a union with it": Change(
        model(a=Card), model(a=PAYMENT), None, ("a.kind", '"cash" is written')
    ),
    "a recursive model gets a required field": Change(
        Tree, NumberedTree, ("number", MISSING), None
    ),
    "a root model gets a longest length": Change(Lines, FewLines, ("", "at most 2 items"), None),
    "a literal is replaced": Change(
        model(a=Literal["one"]),
        model(a=Literal["two"]),
        ("a", '"one" is written'),
        ("a", '"two" is written'),
    ),
    "a tuple gets an item": Change(
        model(a=tuple[int, str]),
        model(a=tuple[int, str, int]),
        ("a", "at least 3 items"),
        ("a", "at most 2 items"),
    ),
    "a validator refuses what was written": Change(
        Plain, Careful, ("", "the schemas fit, but the reader refuses"), None
    ),
}

"""Every spelling of a type means what its plain spelling means, or is refused at start (S9)."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated, Any, Generic, List, Literal, NewType, Optional, TypeVar, Union  # noqa: UP035 - spellings

import pytest
from aiokafka.structs import ConsumerRecord
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    RootModel,
    Strict,
    Tag,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypeAliasType, TypedDict

from kafkaesk_core.errors import DecodeError, InvalidMessageError, SubscriptionError
from kafkaesk_core.handlers import takes_batches
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.router import Subscription
from kafkaesk_core.schema.registry import SchemaRegistration, Schemas

# Any in this file: annotations of all kinds, and what they give.

T = TypeVar("T")


class Created(BaseModel):
    """The same shape as Deleted: only the schema tells them apart."""

    number: int


class Deleted(BaseModel):
    number: int


class Opened(BaseModel):
    kind: Literal["opened"] = "opened"


class Closed(BaseModel):
    kind: Literal["closed"] = "closed"


class Page(BaseModel, Generic[T]):
    items: list[T]


class Root(RootModel[list[int]]):
    pass


class Fields(TypedDict):
    number: int


@dataclasses.dataclass
class Data:
    number: int


Bound = TypeVar("Bound", bound=Created)
OneOf = TypeVar("OneOf", Created, Deleted)
Event = TypeAliasType("Event", Union[Created, Deleted])  # noqa: UP007 - spellings
Quoted = TypeAliasType("Quoted", "Created | Deleted")
Either = TypeAliasType("Either", Union[T, Deleted], type_params=(T,))  # noqa: UP007
Same = TypeAliasType("Same", T, type_params=(T,))
Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | int | str")
Batch = TypeAliasType("Batch", List[T], type_params=(T,))  # noqa: UP006
Itself = TypeAliasType("Itself", "Itself")  # type: ignore[misc]  # the case
Nowhere = TypeAliasType("Nowhere", "Missing")  # type: ignore[name-defined]  # noqa: F821 - the case
NewEvent = NewType("NewEvent", Event)  # type: ignore[valid-newtype]  # a spelling that pydantic takes
NewCreated = NewType("NewCreated", Created)
Big = NewType("Big", Annotated[int, Field(gt=5)])
State = Annotated[Opened | Closed, Field(discriminator="kind")]
Tagged = Annotated[
    Annotated[Opened, Tag("opened")] | Annotated[Closed, Tag("closed")],
    Discriminator(lambda data: data["kind"] if isinstance(data, dict) else data.kind),
]


@pytest.fixture
def schemas() -> Schemas:
    schemas = Schemas()
    for model in (Created, Deleted, Opened, Closed):
        schemas.register(SchemaRegistration(model.__name__, model=model))
    return schemas


def incoming(schema: str, data: Any) -> IncomingMessage:
    return raw(json.dumps({"schema": schema, "data": data}).encode())


def raw(value: bytes | None) -> IncomingMessage:
    return IncomingMessage(ConsumerRecord("topic", 0, 7, 0, 0, b"k", value, None, 1, 5, ()), "s")


@pytest.mark.parametrize(
    "annotation",
    [
        Created | Deleted,
        Event,
        Quoted,
        NewEvent,
        OneOf,
        Either[Created],
        Same[Event],
        Annotated[Event, "a note"],
        Annotated[Annotated[Created, "inner"] | Deleted, "outer"],
        NewCreated | Deleted,
        Optional[Event],  # noqa: UP045 - a spelling
        Union[Event, Opened],  # noqa: UP007
    ],
)
def test_a_union_however_it_is_spelt_is_chosen_by_the_schema(
    schemas: Schemas, annotation: Any
) -> None:
    decode = schemas.decoder(annotation)

    assert decode(incoming("Created:1", {"number": 1})) == Created(number=1)
    assert decode(incoming("Deleted:1", {"number": 1})) == Deleted(number=1)
    with pytest.raises(InvalidMessageError, match="has schema Closed:1"):
        decode(incoming("Closed:1", {"number": 1}))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement came with Python 3.12")
def test_a_type_statement_is_what_it_stands_for(schemas: Schemas) -> None:
    names: dict[str, Any] = {**globals(), "__name__": __name__}
    statements = "type Happened = Created | Deleted\ntype OrDeleted[X] = Happened | X\n"
    exec(statements, names)

    for annotation in (names["Happened"], names["OrDeleted"][Deleted], names["Happened"] | None):
        decode = schemas.decoder(annotation)

        assert decode(incoming("Created:1", {"number": 1})) == Created(number=1)
        assert decode(incoming("Deleted:1", {"number": 1})) == Deleted(number=1)


@pytest.mark.parametrize("annotation", [NewCreated, Bound, Same[Created], Annotated[Created, "x"]])
def test_a_model_by_another_name_takes_its_schema_alone(schemas: Schemas, annotation: Any) -> None:
    decode = schemas.decoder(annotation)

    assert decode(incoming("Created:1", {"number": 1})) == Created(number=1)
    with pytest.raises(InvalidMessageError, match="has schema Deleted:1"):
        decode(incoming("Deleted:1", {"number": 1}))


@pytest.mark.parametrize("annotation", [State, Tagged, State | None, NewType("New", State)])
def test_what_a_discriminator_chooses_is_what_the_schema_says(
    schemas: Schemas, annotation: Any
) -> None:
    decode = schemas.decoder(annotation)

    assert decode(incoming("Closed:1", {"kind": "closed"})) == Closed()
    with pytest.raises(InvalidMessageError, match="Opened:1, and its data is a Closed"):
        decode(incoming("Opened:1", {"kind": "closed"}))
    with pytest.raises(InvalidMessageError, match="Created:1"):
        decode(incoming("Created:1", {"kind": "closed"}))


DATA: list[Any] = [
    *(None, True, 1, 7, 1.5, "1", "a", [], [1], ["a"], {}, {"number": 1}),
    *({"number": "1"}, {"number": None}, {"items": [1]}, {"items": ["x"]}, {"a": [1, {"b": "c"}]}),
]


@pytest.mark.parametrize(
    "annotation",
    [
        *(int, str, float, bool, Fields, Data, Root, Page[int], Created, dict[str, int], Json),
        *(Literal["a", 1], int | str, int | None, tuple[int, ...], set[int], NewCreated),
        Annotated[int, Field(gt=5)],
        Annotated[int, Strict()],
        Annotated[int | None, Field(gt=5)],
        Annotated[int, Field(gt=5)] | str,
        Annotated[int, BeforeValidator(str), AfterValidator(str)],
        Annotated[Created, AfterValidator(lambda created: created.number)],
        Annotated[Created | Data, AfterValidator(lambda either: either.number)],
        Annotated[Any, AfterValidator(bool)] | Annotated[int, Field(gt=5)],
        Big,
        Big | None,
        TypeAliasType("Alias", Annotated[int, Field(gt=5)]),
    ],
)
def test_data_is_validated_as_a_type_adapter_of_the_annotation_would(annotation: Any) -> None:
    """Without registered models: the schema says nothing then."""
    adapter = TypeAdapter(annotation)
    decode = Schemas().decoder(annotation)

    for data in DATA:
        try:
            expected = adapter.validate_json(json.dumps(data))
        except ValidationError:
            with pytest.raises(InvalidMessageError):
                decode(incoming("Any:1", data))
        else:
            assert decode(incoming("Any:1", data)) == expected


def test_validators_run_on_what_the_schema_chose(schemas: Schemas) -> None:
    doubled = AfterValidator(lambda event: (type(event).__name__, event.number * 2))

    decode = schemas.decoder(Annotated[Event, doubled] | None)

    assert decode(incoming("Deleted:1", {"number": 2})) == ("Deleted", 4)
    assert decode(raw(None)) is None


def test_a_validator_around_none_sees_tombstones(schemas: Schemas) -> None:
    annotation = Annotated[Created | None, AfterValidator(lambda created: created or "deleted")]

    assert schemas.decoder(annotation)(raw(None)) == "deleted"


@pytest.mark.parametrize(
    "annotation", [bytes, NewType("Raw", bytes), Annotated[bytes, "raw"], bytes | None]
)
def test_bytes_by_another_name_are_the_value(annotation: Any) -> None:
    decode = Schemas().decoder(annotation)

    assert (decode(raw(b"no json")), decode(raw(None))) == (b"no json", None)


def test_constraints_of_bytes_hold_for_the_value() -> None:
    decode = Schemas().decoder(Annotated[bytes, Field(max_length=3)])

    assert decode(raw(b"abc")) == b"abc"
    with pytest.raises(InvalidMessageError, match=r"topic\[0\]@7 .*at most 3 bytes"):
        decode(raw(b"abcd"))


@pytest.mark.parametrize(
    "annotation",
    [NewType("Rec", ConsumerRecord), Annotated[ConsumerRecord, "x"], ConsumerRecord | None],
)
def test_a_record_by_another_name_is_the_record(annotation: Any) -> None:
    message = raw(b"x")

    assert Schemas().decoder(annotation)(message) is message.record


def test_validators_of_records_run() -> None:
    decode = Schemas().decoder(Annotated[ConsumerRecord, AfterValidator(lambda r: r.offset)])

    assert decode(raw(b"x")) == 7


def test_none_is_a_tombstone_alone_for_a_registered_model(schemas: Schemas) -> None:
    with pytest.raises(DecodeError, match="tombstone"):
        schemas.decoder(NewCreated)(raw(None))
    with pytest.raises(InvalidMessageError):
        schemas.decoder(Created | Deleted | None)(incoming("Created:1", None))


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (Nowhere, "'Missing' is not defined"),
        (Itself, "Itself stands for itself"),
        (bytes | Created, "bytes takes the whole record"),
        (ConsumerRecord | Created, "ConsumerRecord takes the whole record"),
        (Annotated[Page[int], Field(discriminator="kind")], "cannot be validated by pydantic"),
        (Batch[int] | None, r"list\[\.\.\.\] is not the type of one message"),
    ],
)
def test_what_cannot_be_decoded_to_is_refused_at_start(
    schemas: Schemas, annotation: Any, told: str
) -> None:
    with pytest.raises(SubscriptionError, match=told):
        schemas.decoder(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        list[Created],
        List[Created],  # noqa: UP006 - a spelling
        List,  # noqa: UP006
        Batch[Created],
        NewType("NewBatch", list[Created]),
        TypeAliasType("AliasBatch", list[Created]),
        Annotated[Batch[Created], "note"],
        list["Created"],
        list[Annotated[int, Field(gt=5)]],
    ],
)
def test_a_list_however_it_is_spelt_takes_batches(annotation: Any) -> None:
    async def handle(data: Any) -> None: ...

    handle.__annotations__["data"] = annotation

    assert takes_batches(Subscription("id", handle, "group", pattern="*"))


@pytest.mark.parametrize("metadata", [Field(min_length=1), AfterValidator(sorted)])
def test_validation_of_a_whole_batch_is_refused(metadata: Any) -> None:
    async def handle(data: Any) -> None: ...

    handle.__annotations__["data"] = Annotated[list[Created], metadata]

    with pytest.raises(SubscriptionError, match="put the validation on its items"):
        takes_batches(Subscription("id", handle, "group", pattern="*"))

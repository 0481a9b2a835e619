"""Decodes the bytes of a record to the type of a handler's first parameter."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, isclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, Discriminator, InstanceOf, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator, core_schema, from_json

from kafkaesk_core.errors import DecodeError, InvalidMessageError, SubscriptionError
from kafkaesk_core.message import IncomingMessage

from .problems import json_problem, list_problems
from .upcasting import Upcast, upcasting, upcasting_content

if TYPE_CHECKING:
    from .registry import SchemaRegistration

__all__ = [
    "Decoder",
    "Reader",
    "affects_validation",
    "make_decoder",
    "reader_of",
    "registrations_of",
    "unwrap_annotation",
]

Decoder = Callable[[IncomingMessage], Any]
"""Any, because a handler's data has the type of its annotation."""


class Reader(Protocol):
    """Reads usual values without a message."""

    def read(self, value: bytes | None) -> Any:
        """Return the data of a usual value; None for any other value."""

    def read_all(self, values: Iterable[bytes | None]) -> list[Any] | None:
        """Return the data of usual values; None if any value is unusual."""


_NONE = type(None)
_NO_TYPE_OF_ONE = (
    "is not the type of one message; annotate the first parameter with a model, bytes, "
    "ConsumerRecord, or nothing"
)

Registrations = Callable[[type[BaseModel]], "list[SchemaRegistration]"]
Upcasts = Callable[["SchemaRegistration"], Mapping[str, Upcast]]


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read records; `upcasts` are functions by the older version that they accept.

    `form` is the format of a record's value: the envelope, only the data with a known schema
    ("data"), or plain JSON of the service ("plain").
    """

    registrations: Registrations
    upcasts: Upcasts = lambda _: {}
    form: Literal["envelope", "data", "plain"] = "envelope"

    def leaf(self, annotation: Any, found: Sequence[SchemaRegistration]) -> Decoder:
        """Return the decoder of one type; `found` are its models' registrations."""
        current = frozenset(registration.key for registration in found)
        envelope = _Envelope(annotation, current)
        decode = envelope.decode if self.form == "envelope" else envelope.decode_value
        upcasts = {key: func for each in found for key, func in self.upcasts(each).items()}
        older = {key: func for key, func in upcasts.items() if key not in current}
        if not older:
            return decode
        if self.form == "envelope":
            return upcasting(decode, envelope.decode_content, older, current)
        return upcasting_content(decode, envelope.decode_content, older)


def make_decoder(annotation: Any, reading: Reading) -> Decoder:
    """Return the decoder for an annotation; Parameter.empty stands for no annotation.

    The decoder behaves like a `TypeAdapter` of the annotation, however the annotation is written. A
    registered model accepts messages with its schema's id, in any version, and validates their
    data. Any other model accepts every schema and validates only the shape.

    Raises:
        SubscriptionError: records cannot be decoded to this annotation.
    """
    try:
        members = list(union_members(annotation))
    except (NameError, RecursionError) as error:
        raise SubscriptionError(
            f"{annotation!r} cannot be resolved: {error}; define the name at module level"
        ) from error
    values = [member for member in members if member.kind is not _NONE]
    is_optional = len(values) < len(members)
    if len(values) == 1 and (take := _decoder_of_whole_record(values[0].kind, reading)):
        return _add_validation(take, values[0], is_optional=is_optional)
    _refuse_what_is_no_data(values)
    decode = _decoder_of_members(annotation, values, reading)
    return _optional(decode, annotation) if is_optional else decode


def reader_of(decode: Decoder) -> Reader | None:
    """Return a reader of usual values without messages; None if the decoder needs a message."""
    envelope = getattr(decode, "__self__", None)
    return envelope if isinstance(envelope, _Envelope) and decode == envelope.decode else None


def _decoder_of_whole_record(kind: Any, reading: Reading) -> Decoder | None:
    """Return the decoder for a whole record or a whole envelope; None for a model."""
    if kind is bytes:
        return lambda message: message.value
    if kind is ConsumerRecord:
        return lambda message: message.record
    untyped = _json_beside if reading.form == "data" else _json
    return untyped if kind in (Parameter.empty, Any) else None


def takes_record(annotation: Any) -> bool:
    """Whether an annotation takes whole records; `make_decoder` has accepted it."""
    return any(member.kind in (bytes, ConsumerRecord) for member in union_members(annotation))


def _add_validation(take: Decoder, member: Member, *, is_optional: bool) -> Decoder:
    """Add the annotation's validation, if it has one."""
    instance_of: Any = InstanceOf  # the record's fields are not pydantic's to validate
    kind = instance_of[ConsumerRecord] if member.kind is ConsumerRecord else member.kind
    metadata = getattr(member.annotation, "__metadata__", ())
    if not affects_validation(kind, metadata):
        return take
    taken = Union[kind, None] if is_optional else kind  # noqa: UP007 - known at run time only
    validate = _adapter(Annotated[(taken, *metadata)]).validator.validate_python

    def decode(message: IncomingMessage) -> Any:
        value = take(message)
        if value is None and not is_optional:
            return None  # a tombstone
        try:
            return validate(value)
        except ValidationError as error:
            raise InvalidMessageError(
                f"{_where(message)} does not satisfy its handler's annotation: "
                f"{list_problems(error)}",
                topic=message.topic,
            ) from None

    return decode


def _refuse_what_is_no_data(members: Sequence[Member]) -> None:
    for member in members:
        kind = get_origin(member.kind) or member.kind
        if kind is list and len(members) == 1:
            raise SubscriptionError(f"list[...] {_NO_TYPE_OF_ONE}")
        if kind is bytes or kind is ConsumerRecord:
            raise SubscriptionError(
                f"{kind.__name__} takes the whole record and cannot be one of several types; "
                "annotate the first parameter with it alone, or leave it out"
            )


def _decoder_of_members(annotation: Any, members: Sequence[Member], reading: Reading) -> Decoder:
    choices: dict[str, Decoder] = {}
    others: list[Member] = []
    for member in members:
        found = [r for model in _models(member.kind) for r in reading.registrations(model)]
        if not found:
            others.append(member)
            continue
        decode = _decoder_of_member(member, found, reading)
        for registration in found:
            choices[registration.key] = decode
            choices.setdefault(registration.id, decode)
    if not choices:
        return reading.leaf(annotation, ())
    if len(members) == 1:
        return decode
    kinds = tuple(member.annotation for member in others)
    rest = reading.leaf(Union[kinds], ()) if kinds else None  # noqa: UP007
    return _Choice(choices, rest).decode


def _models(kind: Any) -> list[type[BaseModel]]:
    """Return the possible models of the data; several if a discriminator chooses."""
    members = (
        (m.kind for argument in get_args(kind) for m in union_members(argument))
        if is_union(kind)
        else (kind,)
    )
    return [each for each in members if isclass(each) and issubclass(each, BaseModel)]


def registrations_of(annotation: Any, registrations: Registrations) -> list[SchemaRegistration]:
    """Return the registrations of an annotation's models; `make_decoder` has accepted it."""
    models = [model for member in union_members(annotation) for model in _models(member.kind)]
    return [found for model in models for found in registrations(model)]


def _decoder_of_member(
    member: Member, found: Sequence[SchemaRegistration], reading: Reading
) -> Decoder:
    """Return the decoder to one type; a discriminator's choice must agree with the schema."""
    decode = reading.leaf(member.annotation, found)
    if not is_union(member.kind):
        return decode
    ids: dict[Any, set[str]] = {}
    for registration in found:
        ids.setdefault(registration.model, set()).add(registration.id)

    def decode_and_check(message: IncomingMessage) -> Any:
        data = decode(message)
        expected = ids.get(type(data))
        if expected and message.schema.partition(":")[0] not in expected:
            raise InvalidMessageError(
                f"{_where(message)} has schema {message.schema}, and its data is a "
                f"{type(data).__name__}, which is {' or '.join(sorted(expected))}; "
                "publish it with the schema of its model",
                schema=message.schema,
                topic=message.topic,
            )
        return data

    return decode_and_check


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        adapter = TypeAdapter(annotation)
        adapter.core_schema  # noqa: B018 - raises what is not defined yet
    except Exception as error:  # pydantic raises errors of many kinds, TypeError too
        problem = str(error).splitlines()[0]
        raise SubscriptionError(
            f"{annotation!r} cannot be validated by pydantic: {problem}; annotate the first "
            "parameter with a model, bytes, ConsumerRecord, or nothing"
        ) from error
    return adapter


class _Envelope:
    """Validates the whole envelope in one pass over the bytes, or data without an envelope."""

    def __init__(self, annotation: Any, keys: frozenset[str]) -> None:
        adapter = _adapter(annotation)
        fields = {"schema": core_schema.str_schema(), "data": adapter.core_schema}
        envelope = core_schema.typed_dict_schema(
            {name: core_schema.typed_dict_field(field) for name, field in fields.items()}
        )
        self._validate = SchemaValidator(envelope).validate_json
        self._validate_content = adapter.validator.validate_json
        self._keys = keys
        self._ids = {key.partition(":")[0] for key in keys}
        self._known: set[str] = set()  # keys whose id was checked

    def decode(self, message: IncomingMessage) -> Any:
        """Return the validated data."""
        value = message.value
        if value is None:
            raise _tombstone_error(message)
        try:
            envelope = self._validate(value)
        except ValidationError as error:
            self._check_id(message)
            raise _problem(message, error, self._keys) from None
        schema = message.known_schema = envelope["schema"]
        if schema not in self._known:
            self._check_id(message)
            self._known.add(schema)
        return envelope["data"]

    def decode_value(self, message: IncomingMessage) -> Any:
        """Return the validated data of a message whose value is only the data."""
        if message.value is None:
            raise _tombstone_error(message)
        return self.decode_content(message, message.value)

    def decode_content(self, message: IncomingMessage, content: bytes) -> Any:
        """Return the validated data of a message whose schema is known."""
        self._check_id(message)
        try:
            return self._validate_content(content)
        except ValidationError as error:
            raise _problem(message, error, self._keys) from None

    def read(self, value: bytes | None) -> Any:
        """Return the data of a usual value; None for any other value, which `decode` explains."""
        try:
            envelope = self._validate(value)  # type: ignore[arg-type]  # None raises an error
            return envelope["data"] if envelope["schema"] in self._known else None
        except Exception:
            return None

    def read_all(self, values: Iterable[bytes | None]) -> list[Any] | None:
        """Return the data of usual values; None if any value is unusual."""
        validate, known, data = self._validate, self._known, list[Any]()
        try:
            for value in values:
                envelope = validate(value)  # type: ignore[arg-type]  # as in `read`
                if envelope["schema"] not in known:
                    return None
                data.append(envelope["data"])
        except Exception:
            return None
        return data

    def _check_id(self, message: IncomingMessage) -> None:
        schema = message.schema
        if self._ids and schema.partition(":")[0] not in self._ids:
            raise InvalidMessageError(
                f"{_where(message)} has schema {schema}, and its handler takes "
                f"{' or '.join(sorted(self._ids))}; subscribe to other streams, "
                "or annotate the parameter with both models",
                schema=schema,
                topic=message.topic,
            )


def _tombstone_error(message: IncomingMessage) -> DecodeError:
    return DecodeError(
        f"{_where(message)} is a tombstone (no value); annotate the parameter with "
        "Model | None to handle it"
    )


class _Choice:
    """Chooses among several models by the schema that the envelope names."""

    def __init__(self, choices: Mapping[str, Decoder], rest: Decoder | None) -> None:
        self._choices = choices
        self._rest = rest

    def decode(self, message: IncomingMessage) -> Any:
        """Return the data, validated by its schema's model."""
        schema = message.schema
        choices = self._choices
        decode = choices.get(schema) or choices.get(schema.partition(":")[0]) or self._rest
        if decode is None:
            known = ", ".join(sorted(key for key in choices if ":" in key))
            raise InvalidMessageError(
                f"{_where(message)} has schema {schema}, and its handler takes {known}",
                schema=schema,
                topic=message.topic,
            )
        return decode(message)


def _optional(decode: Decoder, annotation: Any) -> Decoder:
    if not unwrap_annotation(annotation)[1]:
        return lambda message: None if message.value is None else decode(message)
    validate = _adapter(annotation).validator.validate_python
    return lambda message: validate(None) if message.value is None else decode(message)


def _json(message: IncomingMessage) -> Any:
    if message.value is None:
        return None
    try:
        return from_json(message.value)
    except ValueError as error:
        raise DecodeError(f"{_where(message)} is not valid JSON: {error}") from None


def _json_beside(message: IncomingMessage) -> Any:
    """Return the envelope of data with a known schema."""
    data = _json(message)
    return None if message.value is None else {"schema": message.schema, "data": data}


def _problem(message: IncomingMessage, error: ValidationError, keys: frozenset[str]) -> Exception:
    if problem := json_problem(error):
        return DecodeError(f"{_where(message)} is not valid JSON: {problem}")
    schema, problems = message.schema, list_problems(error)
    named = f" (schema {schema})" if schema else ""
    detail = f": {problems}"
    if keys:
        explain = _of_this_version if schema in keys else _of_another_version
        detail = explain(schema, keys, problems)
    return InvalidMessageError(
        f"{_where(message)} does not satisfy its handler's model{detail}{named}",
        schema=schema,
        topic=message.topic,
    )


def _of_another_version(schema: str, keys: frozenset[str], problems: str) -> str:
    """Explain that the record has another version than the model, with the remedy."""
    written, known = _version(schema), " and ".join(sorted(keys, key=_version))
    remedy = "annotate the parameter with a union of both models"
    if written < max(map(_version, keys)):
        remedy = f"bring {schema} up to date with upcast() of kafkaesk-schemas, or {remedy}"
    else:
        remedy = f"update the handler to a model that reads {schema}, or {remedy}"
    return f": it was written as {schema}, and the model is {known}: {problems}; {remedy}"


def _of_this_version(schema: str, keys: frozenset[str], problems: str) -> str:
    """Explain that the model changed without a new version, or differs in another service."""
    return (
        f": {problems}; its writer has another {schema}: give the changed model a version of its "
        "own, or the new field a default"
    )


def _version(key: str) -> int:
    text = key.rpartition(":")[2]
    return int(text) if text.isdecimal() else 0


def _where(message: IncomingMessage) -> str:
    return f"{message.topic}[{message.partition}]@{message.offset}"


# --- annotations

# Any below: annotations are of any kind.
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Member:
    """One type of a union; `annotation` is `kind` with all of its metadata."""

    kind: Any
    annotation: Any


def unwrap_annotation(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the bare type, and the metadata of every `Annotated` around it, innermost first.

    Raises:
        NameError: an alias refers to a name that its module does not have.
        RecursionError: an alias refers to itself.
    """
    metadata: tuple[Any, ...] = ()
    for _ in range(_DEEPEST):
        if get_origin(annotation) is Annotated:
            metadata = (*annotation.__metadata__, *metadata)
            annotation = annotation.__origin__
        elif isinstance(annotation, TypeVar):
            annotation = _of_type_variable(annotation)
        elif hasattr(annotation, "__supertype__"):
            annotation = _resolve(annotation.__supertype__, annotation.__module__)
        elif hasattr(get_origin(annotation) or annotation, "__value__"):
            annotation = _of_alias(annotation)
        else:
            return annotation, metadata
    raise RecursionError(f"{annotation} stands for itself")


def union_members(annotation: Any) -> Iterator[Member]:
    """Yield the types of a union, however it is written; a discriminated union is one type.

    Raises:
        NameError: as with `unwrap_annotation`, which also raises RecursionError.
    """
    kind, metadata = unwrap_annotation(annotation)
    if is_union(kind) and not any(_is_discriminator(each) for each in metadata):
        for argument in get_args(kind):
            for member in union_members(argument):
                yield Member(member.kind, _annotate(member.annotation, metadata))
    else:
        yield Member(kind, _annotate(kind, metadata))


def affects_validation(kind: Any, metadata: tuple[Any, ...]) -> bool:
    """Whether the metadata around a type changes how pydantic validates it."""
    if not metadata:
        return False
    try:
        around = TypeAdapter(_annotate(kind, metadata)).core_schema
    except Exception:  # pydantic raises errors of many kinds: it has read metadata that it refuses
        return True
    return bool(around != TypeAdapter(kind).core_schema)


def is_union(kind: Any) -> bool:
    """Whether a type is a union."""
    return get_origin(kind) in (Union, types.UnionType)


def _annotate(kind: Any, metadata: tuple[Any, ...]) -> Any:
    return Annotated[(kind, *metadata)] if metadata else kind


def _is_discriminator(metadata: Any) -> bool:
    is_field = isinstance(metadata, FieldInfo) and metadata.discriminator is not None
    return is_field or isinstance(metadata, Discriminator)


def _of_type_variable(variable: TypeVar) -> Any:
    """Return the type with which pydantic validates an unfilled type variable."""
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007 - known at run time only
    return Any if variable.__bound__ is None else variable.__bound__


def _of_alias(annotation: Any) -> Any:
    alias = get_origin(annotation) or annotation
    value = _resolve(alias.__value__, alias.__module__)
    arguments = get_args(annotation)
    if not arguments:
        return value
    if value in alias.__type_params__:
        return arguments[alias.__type_params__.index(value)]
    # The parameters of a value are in the order of their use, not of their declaration.
    filled = dict(zip(alias.__type_params__, arguments, strict=True))
    parameters = getattr(value, "__parameters__", ())
    return value[tuple(filled[each] for each in parameters)] if parameters else value


def _resolve(value: Any, module: str) -> Any:
    """Resolve quoted names in the value, in the module where the alias is defined."""
    holder = types.SimpleNamespace(__annotations__={"value": value})
    names = getattr(sys.modules.get(module), "__dict__", {})
    return get_type_hints(holder, globalns=names, include_extras=True)["value"]

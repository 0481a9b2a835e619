"""From the bytes of a record to what a handler's first parameter asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, isclass
from typing import Annotated, Any, Union, get_args, get_origin

from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, InstanceOf, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, core_schema, from_json

from kafkaesk_core.errors import DecodeError, InvalidMessageError, SubscriptionError
from kafkaesk_core.message import IncomingMessage

from .annotations import Member, has_meaning, is_union, members_of, plain
from .problems import invalid_json, told
from .registration import SchemaRegistration

__all__ = ["Decoder", "decoder_of"]

Decoder = Callable[[IncomingMessage], Any]
"""Any: a handler's data is of the type that its annotation names."""

_NONE = type(None)
_NO_TYPE_OF_ONE = (
    "is no type of one message; annotate the first parameter with a model, bytes, "
    "ConsumerRecord, or nothing"
)

Registrations = Callable[[type[BaseModel]], list[SchemaRegistration]]


def decoder_of(annotation: Any, registrations: Registrations) -> Decoder:
    """Prepare the decoding for an annotation; Parameter.empty stands for none.

    It behaves as a `TypeAdapter` of the annotation would, however that is spelt. A registered
    model takes its schema id, in any version, and validates the data against itself; another
    model takes any schema and validates the shape alone.

    Raises:
        SubscriptionError: nothing is known of how to decode to the annotation.
    """
    try:
        members = list(members_of(annotation))
    except (NameError, RecursionError) as error:
        raise SubscriptionError(
            f"{annotation!r} cannot be resolved: {error}; define what it names at module level"
        ) from error
    values = [member for member in members if member.kind is not _NONE]
    is_optional = len(values) < len(members)
    if len(values) == 1 and (take := _whole(values[0].kind)):
        return _validated(take, values[0], is_optional=is_optional)
    _refuse_what_is_no_data(values)
    decode = _of_members(annotation, values, registrations)
    return _optional(decode, annotation) if is_optional else decode


def _whole(kind: Any) -> Decoder | None:
    """What takes the record as it came, or all of its envelope."""
    if kind is bytes:
        return lambda message: message.value
    if kind is ConsumerRecord:
        return lambda message: message.record
    return _json if kind in (Parameter.empty, Any) else None


def _validated(take: Decoder, member: Member, *, is_optional: bool) -> Decoder:
    """Add the validation that the annotation asks for; none if it asks for none."""
    instance_of: Any = InstanceOf  # the record's fields are not pydantic's to validate
    kind = instance_of[ConsumerRecord] if member.kind is ConsumerRecord else member.kind
    metadata = getattr(member.annotation, "__metadata__", ())
    if not has_meaning(kind, metadata):
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
            problem = f"{_where(message)} does not satisfy its handler's annotation: {told(error)}"
            raise InvalidMessageError(problem, topic=message.topic) from None

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


def _of_members(
    annotation: Any, members: Sequence[Member], registrations: Registrations
) -> Decoder:
    choices: dict[str, Decoder] = {}
    others: list[Member] = []
    for member in members:
        found = [r for model in _models(member.kind) for r in registrations(model)]
        if not found:
            others.append(member)
            continue
        decode = _agreeing(member, found)
        for registration in found:
            choices[registration.key] = decode
            choices.setdefault(registration.id, decode)
    if not choices:
        return _Envelope(annotation, frozenset()).decode
    if len(members) == 1:
        return decode
    kinds = tuple(member.annotation for member in others)
    rest = _Envelope(Union[kinds], frozenset()).decode if kinds else None  # noqa: UP007
    return _Choice(choices, rest).decode


def _models(kind: Any) -> list[type[BaseModel]]:
    """The models that data may become; several if a discriminator chooses."""
    members = (
        (m.kind for argument in get_args(kind) for m in members_of(argument))
        if is_union(kind)
        else (kind,)
    )
    return [each for each in members if isclass(each) and issubclass(each, BaseModel)]


def _agreeing(member: Member, found: Sequence[SchemaRegistration]) -> Decoder:
    """Decode to one type; what a discriminator chooses must be what the schema says."""
    decode = _Envelope(member.annotation, frozenset(r.id for r in found)).decode
    if not is_union(member.kind):
        return decode
    ids: dict[Any, set[str]] = {}
    for registration in found:
        ids.setdefault(registration.model, set()).add(registration.id)

    def checked(message: IncomingMessage) -> Any:
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

    return checked


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
    """Validates the whole envelope in one pass over the bytes."""

    def __init__(self, annotation: Any, ids: frozenset[str]) -> None:
        fields = {"schema": core_schema.str_schema(), "data": _adapter(annotation).core_schema}
        envelope = core_schema.typed_dict_schema(
            {name: core_schema.typed_dict_field(field) for name, field in fields.items()}
        )
        self._validate = SchemaValidator(envelope).validate_json
        self._ids = ids
        self._known: set[str] = set()  # keys whose id was found right

    def decode(self, message: IncomingMessage) -> Any:
        """Return the validated data."""
        value = message.value
        if value is None:
            raise DecodeError(
                f"{_where(message)} is a tombstone (no value); annotate the parameter with "
                "Model | None to handle it"
            )
        try:
            envelope = self._validate(value)
        except ValidationError as error:
            self._check_id(message)
            raise _problem(message, error) from None
        schema = message.known_schema = envelope["schema"]
        if schema not in self._known:
            self._check_id(message)
            self._known.add(schema)
        return envelope["data"]

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


class _Choice:
    """Chooses among several models by the schema that the envelope names."""

    def __init__(self, choices: Mapping[str, Decoder], rest: Decoder | None) -> None:
        self._choices = choices
        self._rest = rest

    def decode(self, message: IncomingMessage) -> Any:
        """Return the data, validated by the model of its schema."""
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
    if not plain(annotation)[1]:
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


def _problem(message: IncomingMessage, error: ValidationError) -> Exception:
    if problem := invalid_json(error):
        return DecodeError(f"{_where(message)} is not valid JSON: {problem}")
    return InvalidMessageError(
        f"{_where(message)} does not satisfy its handler's model: {told(error)} "
        f"(schema {message.schema})",
        schema=message.schema,
        topic=message.topic,
    )


def _where(message: IncomingMessage) -> str:
    return f"{message.topic}[{message.partition}]@{message.offset}"

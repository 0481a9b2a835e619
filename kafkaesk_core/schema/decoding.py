"""From the bytes of a record to what a handler's first parameter asks for."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Annotated, Any, Union, get_args, get_origin

from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from kafkaesk_core.errors import DecodeError, InvalidMessageError, SubscriptionError
from kafkaesk_core.message import IncomingMessage

from .problems import invalid_json, told
from .registration import SchemaRegistration

__all__ = ["Decoder", "decoder_of"]

Decoder = Callable[[IncomingMessage], Any]
"""Any: a handler's data is of the type that its annotation names."""

Registrations = Callable[[type[BaseModel]], list[SchemaRegistration]]


def decoder_of(annotation: Any, registrations: Registrations) -> Decoder:
    """Prepare the decoding for an annotation; Parameter.empty stands for none.

    A registered model takes its schema id, in any version, and validates the data against
    itself; another model takes any schema and validates the shape alone.

    Raises:
        SubscriptionError: nothing is known of how to decode to the annotation.
    """
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in (Parameter.empty, Any):
        return _json
    if annotation is bytes:
        return lambda message: message.value
    if annotation is ConsumerRecord:
        return lambda message: message.record
    members, is_optional = _members(annotation)
    if members == (bytes,):
        return lambda message: message.value
    decode = _of_members(members, registrations)
    return _optional(decode) if is_optional else decode


def _members(annotation: Any) -> tuple[tuple[Any, ...], bool]:
    """The types of a union, without None, and whether None was among them."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return (annotation,), False
    arguments = get_args(annotation)
    members = tuple(argument for argument in arguments if argument is not type(None))
    return members, len(members) < len(arguments)


def _of_members(members: tuple[Any, ...], registrations: Registrations) -> Decoder:
    if len(members) == 1:
        return _Envelope(members[0], _ids(members[0], registrations)).decode
    choices: dict[str, Decoder] = {}
    others: list[Any] = []
    for member in members:
        found = registrations(member) if _is_model(member) else []
        decode = _Envelope(member, frozenset(r.id for r in found)).decode
        for registration in found:
            choices[registration.key] = decode
            choices.setdefault(registration.id, decode)
        if not found:
            others.append(member)
    rest = _Envelope(Union[tuple(others)], frozenset()).decode if others else None  # noqa: UP007
    return _Choice(choices, rest).decode


def _ids(annotation: Any, registrations: Registrations) -> frozenset[str]:
    found = registrations(annotation) if _is_model(annotation) else []
    return frozenset(registration.id for registration in found)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


class _Envelope:
    """Validates the whole envelope in one pass over the bytes."""

    def __init__(self, annotation: Any, ids: frozenset[str]) -> None:
        if get_origin(annotation) is list or annotation is list:
            raise SubscriptionError(
                "list[...] is no type of one message; annotate the first parameter with a model, "
                "bytes, ConsumerRecord, or nothing"
            )
        make: Any = TypedDict  # at run time: no type checker knows the annotation
        envelope = make("Envelope", {"schema": str, "data": annotation})
        try:
            self._validate = TypeAdapter(envelope).validator.validate_json
        except PydanticSchemaGenerationError as error:
            raise SubscriptionError(
                f"{annotation!r} cannot be validated by pydantic; annotate the first parameter "
                "with a model, bytes, ConsumerRecord, or nothing"
            ) from error
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


def _optional(decode: Decoder) -> Decoder:
    return lambda message: None if message.value is None else decode(message)


def _json(message: IncomingMessage) -> Any:
    if message.value is None:
        return None
    try:
        return from_json(message.value)
    except ValueError as error:
        raise DecodeError(f"{_where(message)} is no JSON: {error}") from None


def _problem(message: IncomingMessage, error: ValidationError) -> Exception:
    if problem := invalid_json(error):
        return DecodeError(f"{_where(message)} is no JSON: {problem}")
    return InvalidMessageError(
        f"{_where(message)} does not satisfy its handler's model: {told(error)} "
        f"(schema {message.schema})",
        schema=message.schema,
        topic=message.topic,
    )


def _where(message: IncomingMessage) -> str:
    return f"{message.topic}[{message.partition}]@{message.offset}"

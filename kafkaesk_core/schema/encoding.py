"""Encodes data to the bytes of an envelope: `{"schema": "Content:1", "data": {...}}`.

The serialized bytes are validated before they are sent. A model's own validator builds instances; a
typed dictionary of the same fields builds dictionaries in 60 % of the time. `fast_validator`
returns such a validator for schemas without Python code. It accepts data or leaves the decision to
the model; it never accepts data that the model refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel
from pydantic_core import SchemaError, SchemaValidator, ValidationError, from_json, to_json

from kafkaesk_core.errors import InvalidSchemaError

from .problems import find_non_finite, invalid_message, list_problems
from .round_trip import find_differences, find_obstacles, is_equal, is_exact
from .type_check import make_type_check

if TYPE_CHECKING:
    from .registry import SchemaRegistration

__all__ = ["Encoder", "fast_validator", "make_encoder", "may_hide_nan"]

_LISTED = 5
_SUSPECT = (b"NaN", b"Infinity", b"null")  # the text of numbers that JSON does not have
_REMEDY = (
    "annotate each with the type that it holds, or give it a serializer and a validator that fit"
)

# Any below: data is whatever the caller publishes; it is checked here.


class Encoder(Protocol):
    """Encodes data of one schema; `id` is the schema's id, `key` its name on the wire."""

    id: str
    key: str

    def encode(self, data: Any, topic: str, validate: bool) -> bytes:
        """Return the envelope; `validate=False` trusts model instances.

        Raises:
            InvalidMessageError: the data does not satisfy the schema, or is not valid JSON.
        """

    def for_topic(self, topic: str, validate: bool) -> Callable[[Any], bytes]:
        """Return a function like `encode`, only for the data of the schema's model, and faster.

        It may raise any error; `encode` says what is wrong.
        """

    def content_of(self, value: bytes) -> bytes:
        """Return the data of what `encode` returned."""


def make_encoder(registration: SchemaRegistration) -> Encoder:
    """Return the encoder of a schema.

    Raises:
        InvalidSchemaError: the model's data could not be read back, or the document is not a valid
            JSON Schema.
    """
    if registration.model is not None:
        return ModelEncoder(registration.model, registration)
    return DocumentEncoder(registration.document or {}, registration)


class ModelEncoder:
    """Encodes instances of one model, and JSON-able data that satisfies it."""

    __slots__ = (
        "_accept",
        "_compares",
        "_may_hide_nan",
        "_model",
        "_prefix",
        "_proves",
        "_suffix",
        "_to_json",
        "id",
        "key",
    )

    def __init__(self, model: type[BaseModel], registration: SchemaRegistration) -> None:
        if found := find_obstacles(model):
            raise InvalidSchemaError(
                f"schema {registration.key}: messages of this model could not be read back: "
                f"{'; '.join(found)}",
                schema=registration.key,
            )
        self.id, self.key = registration.id, registration.key
        self._model = model
        self._prefix, self._suffix = _around(registration)
        self._to_json = model.__pydantic_serializer__.to_json
        self._compares = not is_exact(model)
        validate = model.__pydantic_validator__.validate_json
        self._accept = validate if self._compares else fast_validator(model)
        self._may_hide_nan = not self._compares and may_hide_nan(model.__pydantic_core_schema__)
        self._proves = None if self._compares else make_type_check(model)

    def encode(self, data: Any, topic: str, validate: bool) -> bytes:
        """Return the envelope; the serialized bytes are validated again.

        The validation finds instances that were changed after their validation or created without
        it. It is skipped if the types of an instance's values prove that its bytes are valid. If
        types alone cannot guarantee that the data arrives unchanged, the data is compared with the
        data read back.
        """
        if type(data) is not self._model and not isinstance(data, BaseModel):
            data, validate = self._instance(data, topic), self._compares
        if validate and self._proves is not None and self._proves(data):
            validate = False
        try:
            content = self._to_json(data, by_alias=True, warnings=False)
            read = self._accept(content) if validate else None
        except Exception as error:  # a model's own serializers and validators run
            problem = self._problem(data, error)
            raise invalid_message(self.key, topic, problem) from error
        if validate:
            if self._compares and not is_equal(data, read):
                self._refuse_differences(data, read, topic)
            elif self._may_hide_nan and b"null" in content:
                _refuse_non_finite(self._plain(data), self.key, topic)
        return self._prefix + content + self._suffix

    def for_topic(self, topic: str, validate: bool) -> Callable[[Any], bytes]:
        """Return a function like `encode`, only for instances of the model itself."""
        prefix, suffix, to_json, proves = self._prefix, self._suffix, self._to_json, self._proves
        encode = partial(self.encode, topic=topic, validate=validate)

        def encode_trusted(data: BaseModel) -> bytes:
            return prefix + to_json(data, by_alias=True, warnings=False) + suffix

        if not validate:
            return encode_trusted
        if proves is None:
            return encode

        def encode_proven(data: BaseModel) -> bytes:
            # Proven data has neither aliases nor values to warn of.
            return prefix + to_json(data) + suffix if proves(data) else encode(data)

        return encode_proven

    def content_of(self, value: bytes) -> bytes:
        """Return the data of what `encode` returned."""
        return value[len(self._prefix) : len(value) - len(self._suffix)]

    def _refuse_differences(self, data: Any, read: Any, topic: str) -> None:
        if found := list(islice(find_differences(data, read), _LISTED)):
            raise invalid_message(self.key, topic, "; ".join(found), _REMEDY)

    def _instance(self, data: Any, topic: str) -> BaseModel:
        content = _json_of(data, self.key, topic)
        try:
            return self._model.__pydantic_validator__.validate_json(content)  # type: ignore[no-any-return]  # pydantic-core
        except ValidationError as error:
            raise invalid_message(self.key, topic, list_problems(error)) from None

    def _problem(self, data: BaseModel, error: Exception) -> str:
        if not isinstance(error, ValidationError):
            fields = ", ".join(self._unserialisable(data)) or "data"
            is_binary = "invalid utf-8" in str(error)
            why = "bytes that are not UTF-8: set ser_json_bytes and val_json_bytes to 'base64'"
            return f"{fields}: cannot be serialised ({why if is_binary else type(error).__name__})"
        paths = ", ".join(find_non_finite(self._plain(data)))
        return f"{paths}: JSON has no NaN and no infinity" if paths else list_problems(error)

    def _unserialisable(self, data: BaseModel) -> Iterator[str]:
        """Yield the names of the fields that cannot be serialized."""
        for name in (*type(data).model_fields, *(data.model_extra or {})):
            try:
                self._to_json(data, include={name}, by_alias=True, warnings=False)
            except Exception:  # as in `encode`
                yield name

    def _plain(self, data: BaseModel) -> Any:
        return self._model.__pydantic_serializer__.to_python(data, warnings=False, by_alias=True)


class DocumentEncoder:
    """Encodes JSON-able data that satisfies one JSON Schema document."""

    __slots__ = ("_errors", "_prefix", "_suffix", "id", "key")

    def __init__(self, document: Mapping[str, Any], registration: SchemaRegistration) -> None:
        self.id, self.key = registration.id, registration.key
        self._prefix, self._suffix = _around(registration)
        self._errors = _compile_document(dict(document), self.key)

    def encode(self, data: Any, topic: str, validate: bool) -> bytes:
        """Return the envelope; the data of a document is always validated."""
        content = _json_of(data, self.key, topic)
        problems = [
            f"{'.'.join(map(str, error.instance_path)) or 'data'}: violates "
            f"{'/'.join(map(str, error.schema_path))}"
            for error in self._errors(from_json(content))
        ]
        if problems:
            raise invalid_message(self.key, topic, "; ".join(problems[:5]))
        return self._prefix + content + self._suffix

    def for_topic(self, topic: str, validate: bool) -> Callable[[Any], bytes]:
        """Return `encode` with these arguments."""
        return partial(self.encode, topic=topic, validate=validate)

    def content_of(self, value: bytes) -> bytes:
        """Return the data of what `encode` returned."""
        return value[len(self._prefix) : len(value) - len(self._suffix)]


def _compile_document(document: dict[str, Any], key: str) -> Callable[[Any], Any]:
    try:
        jsonschema: Any = import_module("jsonschema_rs")
    except ImportError as error:
        raise InvalidSchemaError(
            f"schema {key} is a JSON Schema document, which needs the package jsonschema-rs; "
            "pip install kafkaesk-core[jsonschema]",
            schema=key,
        ) from error
    try:
        return jsonschema.validator_for(document).iter_errors  # type: ignore[no-any-return]  # untyped
    except ValueError as error:
        raise InvalidSchemaError(
            f"schema {key}: the document is not a valid JSON Schema: {str(error).splitlines()[0]}",
            schema=key,
        ) from error


def _json_of(data: Any, key: str, topic: str) -> bytes:
    try:
        content = to_json(data, by_alias=True)
    except Exception as error:
        _refuse_non_finite(data, key, topic)
        raise invalid_message(
            key, topic, f"it is not valid JSON ({type(error).__name__})"
        ) from error
    if any(word in content for word in _SUSPECT):
        _refuse_non_finite(from_json(content), key, topic)
        _refuse_non_finite(data, key, topic)
    return content


def _refuse_non_finite(data: Any, key: str, topic: str) -> None:
    paths = ", ".join(find_non_finite(data))
    if paths:
        raise invalid_message(key, topic, f"{paths}: JSON has no NaN and no infinity")


def _around(registration: SchemaRegistration) -> tuple[bytes, bytes]:
    """Return the bytes before and after the data: the envelope, or nothing."""
    if not registration.envelope:
        return b"", b""
    return b'{"schema":' + to_json(registration.key) + b',"data":', b"}"


# --- the fast validator

# Any below: pydantic's core schemas, nested dictionaries of many shapes.
Node = dict[str, Any]

_LEAVES = frozenset(
    (
        *("any", "none", "bool", "int", "float", "decimal", "str", "bytes"),
        *("date", "time", "datetime", "timedelta", "literal", "enum"),
        *("uuid", "url", "multi-host-url", "definition-ref"),
    )
)
_NESTED: Mapping[str, tuple[str, ...]] = {
    "list": ("items_schema",),
    "set": ("items_schema",),
    "frozenset": ("items_schema",),
    "tuple": ("items_schema",),
    "dict": ("keys_schema", "values_schema"),
    "nullable": ("schema",),
    "default": ("schema",),
    "union": ("choices",),
    "tagged-union": ("choices",),
    "lax-or-strict": ("lax_schema", "strict_schema"),
    "definitions": ("schema", "definitions"),
}
_IGNORED = frozenset({"metadata", "serialization"})


class _NotFasterError(Exception):
    """The schema has a part that may run Python code."""


def fast_validator(model: type[BaseModel]) -> Callable[[bytes], object]:
    """Return a function that raises ValidationError unless the bytes are JSON of the model."""
    validate = model.__pydantic_validator__.validate_json
    try:
        core: Any = model.__pydantic_core_schema__
        accepts = SchemaValidator(_fast_schema(core)).validate_json
    except (_NotFasterError, SchemaError):
        return validate

    def accept(data: bytes) -> object:
        try:
            return accepts(data)
        except ValidationError:
            return validate(data)

    return accept


def may_hide_nan(node: Any) -> bool:
    """Whether a NaN, which serializes as null, could be mistaken for an intended null."""
    kinds = set(_kinds(node))
    has_null = not kinds.isdisjoint(("nullable", "none", "any"))
    has_float = not kinds.isdisjoint(("float", "any", "decimal"))
    return has_null and has_float


def _kinds(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node["type"]
        for key, value in node.items():
            if key not in _IGNORED:
                yield from _kinds(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _kinds(value)


def _fast_schema(node: Node) -> Node:
    kind = node["type"]
    if kind == "json-or-python":
        return _fast_schema(node["json_schema"])
    if kind == "model":
        return _typed_dict(node)
    if kind not in _LEAVES and kind not in _NESTED:
        raise _NotFasterError(kind)
    if kind == "tagged-union" and callable(node["discriminator"]):
        raise _NotFasterError(kind)
    nested = _NESTED.get(kind, ())
    copied = {key: value for key, value in node.items() if key not in _IGNORED}
    return copied | {key: _fast_schemas(node[key]) for key in nested if key in node}


def _fast_schemas(value: Any) -> Any:
    """Copy one schema, a list of them (labelled or not), or a mapping of them."""
    if isinstance(value, dict):
        is_node = isinstance(value.get("type"), str)
        if is_node:
            return _fast_schema(value)
        return {tag: _fast_schema(each) for tag, each in value.items()}
    return [(_fast_schema(v[0]), v[1]) if isinstance(v, tuple) else _fast_schema(v) for v in value]


def _typed_dict(node: Node) -> Node:
    """Convert a model's fields to those of a typed dictionary."""
    inner = node["schema"]
    runs_code = node.get("custom_init") or node.get("post_init") or node.get("root_model")
    if runs_code or inner["type"] != "model-fields" or inner.get("extras_schema"):
        raise _NotFasterError(node["cls"].__name__)
    copied: Node = {key: node[key] for key in ("ref", "strict") if key in node}
    if "extra_behavior" in inner:
        copied["extra_behavior"] = inner["extra_behavior"]
    fields = {name: _field(field) for name, field in inner["fields"].items()}
    return {"type": "typed-dict", "fields": fields, "config": node.get("config", {}), **copied}


def _field(field: Node) -> Node:
    copied = {key: field[key] for key in ("validation_alias",) if key in field}
    is_required = field["schema"]["type"] != "default"
    schema = _fast_schema(field["schema"])
    return {"type": "typed-dict-field", "schema": schema, "required": is_required, **copied}

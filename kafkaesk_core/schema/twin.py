"""A cheaper stand-in for a model's validator: says yes or "ask the model", never a wrong yes.

A model's validator builds instances; a typed dictionary of the same fields builds dictionaries,
in 60 % of the time. Only schemas made of the types below are copied: they hold no Python code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaError, SchemaValidator, ValidationError

__all__ = ["acceptor", "may_hide_nan"]

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


class _NoTwinError(Exception):
    """The schema holds something that may run Python code."""


def acceptor(model: type[BaseModel]) -> Callable[[bytes], object]:
    """Return a function that raises ValidationError for what is not JSON of the model."""
    validate = model.__pydantic_validator__.validate_json
    try:
        core: Any = model.__pydantic_core_schema__
        twin = SchemaValidator(_twin(core)).validate_json
    except (_NoTwinError, SchemaError):
        return validate

    def accept(data: bytes) -> object:
        try:
            return twin(data)
        except ValidationError:
            return validate(data)

    return accept


def may_hide_nan(node: Any) -> bool:
    """Say whether a NaN, which is serialised as null, might pass for one that is meant."""
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


def _twin(node: Node) -> Node:
    kind = node["type"]
    if kind == "json-or-python":
        return _twin(node["json_schema"])
    if kind == "model":
        return _typed_dict(node)
    if kind not in _LEAVES and kind not in _NESTED:
        raise _NoTwinError(kind)
    if kind == "tagged-union" and callable(node["discriminator"]):
        raise _NoTwinError(kind)
    nested = _NESTED.get(kind, ())
    copied = {key: value for key, value in node.items() if key not in _IGNORED}
    return copied | {key: _twins(node[key]) for key in nested if key in node}


def _twins(value: Any) -> Any:
    """Copy one schema, a list of them (labelled or not), or a mapping of them."""
    if isinstance(value, dict):
        is_node = isinstance(value.get("type"), str)
        return _twin(value) if is_node else {tag: _twin(v) for tag, v in value.items()}
    return [(_twin(v[0]), v[1]) if isinstance(v, tuple) else _twin(v) for v in value]


def _typed_dict(node: Node) -> Node:
    """Make the fields of a model those of a typed dictionary."""
    inner = node["schema"]
    runs_code = node.get("custom_init") or node.get("post_init") or node.get("root_model")
    if runs_code or inner["type"] != "model-fields" or inner.get("extras_schema"):
        raise _NoTwinError(node["cls"].__name__)
    copied: Node = {key: node[key] for key in ("ref", "strict") if key in node}
    if "extra_behavior" in inner:
        copied["extra_behavior"] = inner["extra_behavior"]
    fields = {name: _field(field) for name, field in inner["fields"].items()}
    return {"type": "typed-dict", "fields": fields, "config": node.get("config", {}), **copied}


def _field(field: Node) -> Node:
    copied = {key: field[key] for key in ("validation_alias",) if key in field}
    is_required = field["schema"]["type"] != "default"
    schema = _twin(field["schema"])
    return {"type": "typed-dict-field", "schema": schema, "required": is_required, **copied}

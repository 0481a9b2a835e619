"""Which models are read back as they were published because of the types of their fields alone.

JSON has fewer types than Python, and a model may run code on both ways: what is published of all
others is read back and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

__all__ = ["is_exact"]

# Any below: pydantic's core schemas, nested dictionaries of many shapes.
Node = dict[str, Any]

_NUMBERS = frozenset(("int", "float"))
_STRINGS = frozenset(
    ("str", "bytes", "date", "time", "datetime", "timedelta", "uuid", "url", "multi-host-url")
)
_LEAVES = _NUMBERS | _STRINGS | {"bool", "none", "decimal", "literal", "enum", "definition-ref"}
_ARRAYS = frozenset(("list", "tuple", "set", "frozenset"))
_NESTED = {
    "list": ("items_schema",),
    "tuple": ("items_schema",),
    "set": ("items_schema",),
    "frozenset": ("items_schema",),
    "nullable": ("schema",),
    "default": ("schema",),
    "model-field": ("schema",),
    "typed-dict-field": ("schema",),
    "definitions": ("schema", "definitions"),
    "dict": ("keys_schema", "values_schema"),
    "model-fields": ("fields",),
    "typed-dict": ("fields",),
    "tagged-union": ("choices",),
    "union": ("choices",),
}
_KEYS = frozenset(("str", "int", "uuid", "date", "datetime"))
_OPTIONS = {
    "ser_json_bytes": "utf8",
    "val_json_bytes": "utf8",
    "ser_json_timedelta": "iso8601",
    "ser_json_temporal": "iso8601",
    "ser_json_inf_nan": "null",
}


def is_exact(model: type[BaseModel]) -> bool:
    """Whether every instance of the model is equal to what its JSON is read back as."""
    core: Any = model.__pydantic_core_schema__
    return _is_exact(core, model)


def _is_exact(node: Node, root: type[BaseModel]) -> bool:
    kind = node["type"]
    if "serialization" in node:
        return False
    if kind in _LEAVES:
        return True
    if kind == "model":
        return _is_exact_model(node, root) and _is_exact(node["schema"], root)
    if kind not in _NESTED or not _is_told_apart(node):
        return False
    return all(_is_exact(n, root) for key in _NESTED[kind] for n in _nodes(node.get(key)))


def _nodes(value: Any) -> Iterator[Node]:
    """Yield one schema, those of a list (labelled or not), or those of a mapping."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value
        else:
            yield from value.values()
    elif value is not None:
        yield from (each[0] if isinstance(each, tuple) else each for each in value)


def _is_exact_model(node: Node, root: type[BaseModel]) -> bool:
    model: type[BaseModel] = node["cls"]
    config: Any = model.model_config
    if node.get("custom_init") or node.get("post_init") or config.get("extra") == "allow":
        return False
    if model is not root and model.__subclasses__():
        return False  # an instance of one is published with the fields of this one alone
    return all(config.get(option, usual) == usual for option, usual in _OPTIONS.items())


def _is_told_apart(node: Node) -> bool:
    """Whether JSON says which of several types a value has; keys are always text."""
    kind = node["type"]
    if kind == "dict":
        return node.get("keys_schema", {"type": "any"})["type"] in _KEYS
    if kind == "typed-dict":
        return bool(node.get("extra_behavior", "ignore") != "allow")
    if kind == "tagged-union":
        return not callable(node["discriminator"])
    if kind == "union":
        is_smart = node.get("mode", "smart") == "smart"
        return is_smart and _are_disjoint([n["type"] for n in _nodes(node["choices"])])
    return True


def _are_disjoint(kinds: Sequence[str]) -> bool:
    families = {"str": _STRINGS, "bool": {"bool"}, "none": {"none"}, "list": _ARRAYS}
    others = [kind for kind in kinds if kind not in _NUMBERS]
    found = [name for kind in others for name, family in families.items() if kind in family]
    is_text_plain = _STRINGS.isdisjoint(others) or "str" in others
    has_numbers = len(others) < len(kinds)
    is_known = len(found) == len(others) == len(set(found))
    return is_known and (is_text_plain or not has_numbers)

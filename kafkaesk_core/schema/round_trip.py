"""Checks whether a model's published data is read back unchanged.

There are three checks. `find_obstacles` reads the types when a schema is registered, and reports
fields that could never be read back. `is_exact` tells whether a model's types alone guarantee the
round trip: JSON has fewer types than Python, and a model may run code when it writes and reads. For
all other models, the data is read back and `find_differences` compares it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import AliasChoices, AliasPath, BaseModel, PlainSerializer, WrapSerializer
from pydantic.fields import FieldInfo

from .problems import find_non_finite

__all__ = ["find_differences", "find_obstacles", "is_equal", "is_exact"]

# Any below: annotations are of any kind.


def find_obstacles(model: type[BaseModel]) -> list[str]:
    """Return the reasons why a model cannot be read back, each with the field and the remedy."""
    return list(_of_model(model, set()))


def _of_model(model: type[BaseModel], seen: set[Any]) -> Iterator[str]:
    if model in seen:
        return
    seen.add(model)
    decorators = model.__pydantic_decorators__
    if decorators.model_serializers:
        return  # it is written in the model's own way, and validated when it is published
    own_words = {f for d in decorators.field_serializers.values() for f in d.info.fields}
    for name, field in model.model_fields.items():
        where = f"{model.__name__}.{name}"
        yield from _of_exclusion(where, field)
        if name not in own_words and "*" not in own_words and not _has_serializer(field.metadata):
            yield from _of_alias(where, name, field, model)
            yield from _of_annotation(where, field.annotation, seen, model.model_config)
    yield from _of_config(model)


def _of_exclusion(where: str, field: FieldInfo) -> Iterator[str]:
    if field.exclude is True and field.is_required():
        yield (
            f"{where} is required but has exclude=True, so it is never published; "
            "give it a default or drop exclude"
        )


def _of_alias(where: str, name: str, field: FieldInfo, model: type[BaseModel]) -> Iterator[str]:
    published = field.serialization_alias or name
    accepted = set(_accepted(name, field, model))
    if field.exclude is not True and published not in accepted:
        yield (
            f"{where} is published as {published!r} but read as "
            f"{' or '.join(map(repr, sorted(accepted))) or 'a nested path'}; use alias= for both, "
            "or AliasChoices with both names"
        )


def _accepted(name: str, field: FieldInfo, model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys from which the model reads the field."""
    config, alias = model.model_config, field.validation_alias
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    if alias is None or by_name:
        yield name
    if config.get("validate_by_alias") is False:
        return
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, str):
            yield choice
        elif isinstance(choice, AliasPath) and len(choice.path) == 1:
            yield str(choice.path[0])


def _of_config(model: type[BaseModel]) -> Iterator[str]:
    config = model.model_config
    if config.get("ser_json_inf_nan") == "constants":
        yield f"{model.__name__} has ser_json_inf_nan='constants', which is not JSON; use 'strings'"
    extra, computed = config.get("extra"), ", ".join(sorted(model.model_computed_fields))
    if computed and extra in ("forbid", "allow"):
        does = "refuse" if extra == "forbid" else "keep as data"
        yield (
            f"{model.__name__} has extra={extra!r} and would {does} its own computed fields "
            f"({computed}); use extra='ignore' or a property"
        )


def _of_annotation(
    where: str, annotation: Any, seen: set[Any], config: Mapping[str, Any]
) -> Iterator[str]:
    """Check unions, containers, nested models, dataclasses and typed dictionaries."""
    if get_origin(annotation) is Annotated:
        if not _has_serializer(get_args(annotation)[1:]):
            yield from _of_annotation(where, get_args(annotation)[0], seen, config)
        return
    for argument in get_args(annotation):
        yield from _of_annotation(where, argument, seen, config)
    kind = get_origin(annotation) or annotation
    alias = getattr(kind, "__value__", None) or getattr(kind, "__supertype__", None)
    if alias is None:
        yield from _of_kind(where, kind, seen, config)
    elif kind not in seen:  # a type statement, which may stand for something that holds itself
        yield from _of_annotation(where, alias, {*seen, kind}, config)


def _of_kind(where: str, kind: Any, seen: set[Any], config: Mapping[str, Any]) -> Iterator[str]:
    if kind is bytes:
        yield from _of_bytes(where, config)
    elif hasattr(kind, "get_secret_value"):
        yield (
            f"{where} is a {kind.__name__}, which is published as stars; "
            "use str or bytes and keep the value out of logs, or leave it out"
        )
    elif inspect.isclass(kind) and issubclass(kind, BaseModel):
        yield from _of_model(kind, seen)
    elif is_typeddict(kind) or dataclasses.is_dataclass(kind):
        yield from _of_fields(where, kind, seen, getattr(kind, "__pydantic_config__", config))


def _of_bytes(where: str, config: Mapping[str, Any]) -> Iterator[str]:
    written, read = (config.get(f"{way}_json_bytes", "utf8") for way in ("ser", "val"))
    if written != read:
        yield (
            f"{where} is bytes, published as {written!r} and read as {read!r}; "
            "set ser_json_bytes and val_json_bytes to the same"
        )


def _of_fields(where: str, kind: Any, seen: set[Any], config: Mapping[str, Any]) -> Iterator[str]:
    if kind not in seen:
        seen.add(kind)
        for name, hint in get_type_hints(kind, include_extras=True).items():
            yield from _of_annotation(f"{where}.{name}", hint, seen, config)


def _has_serializer(metadata: Any) -> bool:
    return any(isinstance(m, (PlainSerializer, WrapSerializer)) for m in metadata)


# --- exact by type

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
    """Whether every instance of the model equals the instance read back from its JSON."""
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
    if kind not in _NESTED or not _is_distinguishable(node):
        return False
    return all(_is_exact(n, root) for key in _NESTED[kind] for n in _nodes(node.get(key)))


def _nodes(value: Any) -> Iterator[Node]:
    """Yield one schema, the schemas of a list (labelled or not), or those of a mapping."""
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


def _is_distinguishable(node: Node) -> bool:
    """Whether a value's JSON shows which of several types it has; keys are always text."""
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


# --- comparison of the published data with the data read back

# Any below: data of any type.
_MISSING = object()
_ORDERED = (list, tuple, deque)


def find_differences(sent: Any, read: Any, path: str = "") -> Iterator[str]:
    """Yield the place and kind of each difference, ignoring unpublished fields."""
    if isinstance(sent, (BaseModel, *_ORDERED)) and type(sent) is not type(read):
        yield from _as_other(sent, read, path)
    elif isinstance(sent, BaseModel) or _is_dataclass(sent):
        yield from _differences_of_fields(_published_fields(sent), _published_fields(read), path)
    elif isinstance(sent, Mapping) and isinstance(read, Mapping):
        yield from _differences_of_fields(dict(sent), dict(read), path)
    elif isinstance(sent, _ORDERED) and len(sent) == len(read):
        for index, (one, other) in enumerate(zip(sent, read, strict=True)):
            yield from find_differences(one, other, _below(path, index))
    elif not _is_same(sent, read):
        yield from _as_other(sent, read, path)


def _differences_of_fields(sent: dict[Any, Any], read: dict[Any, Any], path: str) -> Iterator[str]:
    for name, value in sent.items():
        yield from find_differences(value, read.get(name, _MISSING), _below(path, name))
    for name in read.keys() - sent.keys():
        yield f"{_below(path, name)}: would arrive, but is not in the published data"


def _published_fields(value: Any) -> dict[Any, Any]:
    """Return the published fields of a model or dataclass; private fields are left out."""
    if isinstance(value, BaseModel):
        names, infos = value.__dict__, type(value).model_fields
        extra = value.model_extra or {}
    elif _is_dataclass(value):
        names = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        infos, extra = getattr(value, "__pydantic_fields__", {}), {}
    else:
        return {}
    excluded = {name for name, info in infos.items() if info.exclude is True}
    is_field = infos if isinstance(value, BaseModel) else names
    return {n: v for n, v in names.items() if n in is_field and n not in excluded} | extra


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def is_equal(sent: Any, read: Any) -> bool:
    """Whether the values are equal by their own `__eq__`."""
    try:
        return bool(sent == read)
    except Exception:  # whatever a type of the service raises, or a signaling NaN
        return False


def _is_same(sent: Any, read: Any) -> bool:
    if sent is read or is_equal(sent, read):
        return True
    if type(sent) is not type(read):
        return False
    if isinstance(sent, (float, Decimal, complex)):
        return repr(sent) == repr(read)  # NaN, where both ways have a word for it
    # Objects without their own `__eq__` are compared by their attributes.
    has_equality = type(sent).__eq__ is not object.__eq__  # type: ignore[comparison-overlap]  # of any object
    held = getattr(sent, "__dict__", None)
    return not has_equality and held is not None and held == read.__dict__


def _as_other(sent: Any, read: Any, path: str) -> Iterator[str]:
    if found := list(find_non_finite(sent, path)):
        yield from (f"{each}: JSON has no NaN and no infinity" for each in found)
    elif read is _MISSING:
        yield f"{path or 'data'}: would not arrive"
    elif type(sent) is type(read):
        yield f"{path or 'data'}: would arrive with another value"
    else:
        kinds = type(sent).__name__, type(read).__name__
        yield f"{path or 'data'}: a {kinds[0]} would arrive as a {kinds[1]}"


def _below(path: str, step: object) -> str:
    return f"{path}.{step}" if path else str(step)

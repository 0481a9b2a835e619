"""Whether what is published from a model can be read back into it, as far as types tell."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import AliasChoices, AliasPath, BaseModel, PlainSerializer, WrapSerializer
from pydantic.fields import FieldInfo

__all__ = ["obstacles"]

# Any below: annotations are of any kind.


def obstacles(model: type[BaseModel]) -> list[str]:
    """Return what keeps a model from the round trip, each with the field and the remedy."""
    return list(_of_model(model, set()))


def _of_model(model: type[BaseModel], seen: set[Any]) -> Iterator[str]:
    if model in seen:
        return
    seen.add(model)
    decorators = model.__pydantic_decorators__
    if decorators.model_serializers:
        return  # its own words; what they say is validated at publish
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
    """Yield the keys that the model reads the field from."""
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
    """Look into unions, containers, nested models, dataclasses and typed dictionaries."""
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

"""What an annotation comes to: the types behind aliases, NewType, Annotated and unions."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import Discriminator, TypeAdapter
from pydantic.fields import FieldInfo

__all__ = ["Member", "has_meaning", "is_union", "members_of", "plain"]

# Any below: annotations are of any kind.
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Member:
    """One type of a union; `annotation` is `kind` with the metadata of all that was around it."""

    kind: Any
    annotation: Any


def plain(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the type itself, and the metadata of every `Annotated` around it, inner first.

    Raises:
        NameError: an alias names something that its module does not have.
        RecursionError: an alias stands for itself.
    """
    metadata: tuple[Any, ...] = ()
    for _ in range(_DEEPEST):
        if get_origin(annotation) is Annotated:
            metadata = (*annotation.__metadata__, *metadata)
            annotation = annotation.__origin__
        elif isinstance(annotation, TypeVar):
            annotation = _of_type_variable(annotation)
        elif hasattr(annotation, "__supertype__"):
            annotation = _resolved(annotation.__supertype__, annotation.__module__)
        elif hasattr(get_origin(annotation) or annotation, "__value__"):
            annotation = _of_alias(annotation)
        else:
            return annotation, metadata
    raise RecursionError(f"{annotation} stands for itself")


def members_of(annotation: Any) -> Iterator[Member]:
    """Yield the types of a union, however it is spelt; those that a discriminator chooses as one.

    Raises:
        NameError: as with `plain`; RecursionError too.
    """
    kind, metadata = plain(annotation)
    if is_union(kind) and not any(_is_discriminator(each) for each in metadata):
        for argument in get_args(kind):
            for member in members_of(argument):
                yield Member(member.kind, _annotated(member.annotation, metadata))
    else:
        yield Member(kind, _annotated(kind, metadata))


def has_meaning(kind: Any, metadata: tuple[Any, ...]) -> bool:
    """Whether pydantic does anything because of the metadata around a type."""
    if not metadata:
        return False
    try:
        around = TypeAdapter(_annotated(kind, metadata)).core_schema
    except Exception:  # pydantic raises errors of many kinds: what it refuses, it has read
        return True
    return bool(around != TypeAdapter(kind).core_schema)


def is_union(kind: Any) -> bool:
    """Whether a plain type is a union."""
    return get_origin(kind) in (Union, types.UnionType)


def _annotated(kind: Any, metadata: tuple[Any, ...]) -> Any:
    return Annotated[(kind, *metadata)] if metadata else kind


def _is_discriminator(metadata: Any) -> bool:
    is_field = isinstance(metadata, FieldInfo) and metadata.discriminator is not None
    return is_field or isinstance(metadata, Discriminator)


def _of_type_variable(variable: TypeVar) -> Any:
    """Say what pydantic takes an unfilled variable for."""
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007 - known at run time only
    return Any if variable.__bound__ is None else variable.__bound__


def _of_alias(annotation: Any) -> Any:
    alias = get_origin(annotation) or annotation
    value = _resolved(alias.__value__, alias.__module__)
    arguments = get_args(annotation)
    if not arguments:
        return value
    if value in alias.__type_params__:
        return arguments[alias.__type_params__.index(value)]
    # The parameters of a value are in the order of their use, not of their declaration.
    filled = dict(zip(alias.__type_params__, arguments, strict=True))
    parameters = getattr(value, "__parameters__", ())
    return value[tuple(filled[each] for each in parameters)] if parameters else value


def _resolved(value: Any, module: str) -> Any:
    """Resolve what is quoted in the value, by the names of the module that it stands in."""
    holder = types.SimpleNamespace(__annotations__={"value": value})
    names = getattr(sys.modules.get(module), "__dict__", {})
    return get_type_hints(holder, globalns=names, include_extras=True)["value"]

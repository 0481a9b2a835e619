"""Where what was published differs from what it is read back as; never by which values."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from .problems import non_finite

__all__ = ["differences", "is_equal"]

# Any below: data of any type.
_MISSING = object()
_ORDERED = (list, tuple, deque)


def differences(sent: Any, read: Any, path: str = "") -> Iterator[str]:
    """Yield the place and the kind of each difference; what is not published is left out."""
    if isinstance(sent, (BaseModel, *_ORDERED)) and type(sent) is not type(read):
        yield from _as_other(sent, read, path)
    elif isinstance(sent, BaseModel) or _is_dataclass(sent):
        yield from _of_fields(_published(sent), _published(read), path)
    elif isinstance(sent, Mapping) and isinstance(read, Mapping):
        yield from _of_fields(dict(sent), dict(read), path)
    elif isinstance(sent, _ORDERED) and len(sent) == len(read):
        for index, (one, other) in enumerate(zip(sent, read, strict=True)):
            yield from differences(one, other, _below(path, index))
    elif not _is_same(sent, read):
        yield from _as_other(sent, read, path)


def _of_fields(sent: dict[Any, Any], read: dict[Any, Any], path: str) -> Iterator[str]:
    for name, value in sent.items():
        yield from differences(value, read.get(name, _MISSING), _below(path, name))
    for name in read.keys() - sent.keys():
        yield f"{_below(path, name)}: would arrive, and is not in what is published"


def _published(value: Any) -> dict[Any, Any]:
    """The fields of a model or dataclass that are published; no private ones."""
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
    """Whether they are equal by their own notion of it."""
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
    # What has no notion of equality is compared by what it holds.
    has_equality = type(sent).__eq__ is not object.__eq__  # type: ignore[comparison-overlap]  # of any object
    held = getattr(sent, "__dict__", None)
    return not has_equality and held is not None and held == read.__dict__


def _as_other(sent: Any, read: Any, path: str) -> Iterator[str]:
    if found := list(non_finite(sent, path)):
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

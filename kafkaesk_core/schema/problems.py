"""Texts that describe an invalid message without repeating its values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ValidationError

from kafkaesk_core.errors import InvalidMessageError

__all__ = ["find_non_finite", "invalid_message", "is_non_finite", "json_problem", "list_problems"]

# Any below: pydantic's error details, and data of any type.
_LISTED = 5
# These repeat a part of the input, or the text of a validator, which may.
_TELLING = frozenset({"error", "tag", "encoding_error"})


def list_problems(error: ValidationError, *, below: int = 0) -> str:
    """Return the failing fields with the reasons, without the first `below` steps of each path."""
    details = error.errors(include_input=False)
    problems = [f"{_path(detail['loc'][below:])}: {_reason(detail)}" for detail in details]
    more = len(problems) - _LISTED
    return "; ".join(problems[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def json_problem(error: ValidationError) -> str | None:
    """Return the JSON parser's message, which contains no values; None for valid JSON."""
    (detail, *_) = error.errors(include_input=False)
    return detail["msg"] if detail["type"] == "json_invalid" else None


def invalid_message(
    key: str,
    topic: str,
    problem: str,
    remedy: str = "fix the data, or register the change as a new version",
) -> InvalidMessageError:
    """Return the error for data that does not satisfy its schema."""
    return InvalidMessageError(
        f"data for topic {topic} does not satisfy schema {key}: {problem}; {remedy}",
        schema=key,
        topic=topic,
    )


def is_non_finite(value: Any) -> bool:
    """Whether the value is a NaN or an infinity, as a float or a decimal."""
    if isinstance(value, Decimal):
        return not value.is_finite()
    return isinstance(value, float) and not math.isfinite(value)


def find_non_finite(data: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of NaN and infinity, which JSON does not have."""
    held = _held(data)
    if is_non_finite(data):
        yield path or "data"
    elif isinstance(held, Mapping):
        for key, value in held.items():
            yield from find_non_finite(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, Collection) and not isinstance(data, (str, bytes, bytearray)):
        for index, value in enumerate(data):
            yield from find_non_finite(value, f"{path}.{index}" if path else str(index))


def _held(data: Any) -> Any:
    """Return the fields of a model or dataclass, or the data itself."""
    if isinstance(data, BaseModel):
        return data.__dict__ | (data.model_extra or {})
    return getattr(data, "__dict__", {}) if dataclasses.is_dataclass(data) else data


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(step) for step in location) or "data"


def _reason(detail: Any) -> str:
    """Return pydantic's message if it cannot repeat the input, else the error's type."""
    is_telling = "url" not in detail or not _TELLING.isdisjoint(detail.get("ctx", ()))
    return f"refused ({detail['type']})" if is_telling else str(detail["msg"])

"""Constraints of text and numbers: checks values, and whether one schema includes another."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

__all__ = [
    "FORMATS",
    "NUMBERS",
    "STRINGS",
    "format_samples",
    "includes_numbers",
    "includes_strings",
    "kind_of",
    "number_problem",
    "string_problem",
]

# Any below: values of JSON, and JSON Schemas.
Node = dict[str, Any]

NUMBERS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
STRINGS = frozenset(("minLength", "maxLength", "pattern", "format"))

FORMATS: dict[str, tuple[str, ...]] = {
    "date-time": ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+01:00"),
    "date": ("2026-01-31", "1999-12-31"),
    "time": ("12:00:00", "12:00:00Z"),
    "duration": ("PT1H", "P1DT2H"),
    "uuid": ("6f1c2d0e-6d3c-4f57-9d8b-1c7a5f0e2b11",),
    "uuid1": ("a8098c1a-f86e-11da-bd1a-00112444be1e",),
    "uuid3": ("6fa459ea-ee8a-3ca4-894e-db77e160355e",),
    "uuid4": ("16fd2706-8baf-433b-82eb-8c7fada847da",),
    "uuid5": ("886313e1-3b8a-5372-9b90-0c9aee199e5d",),
    "decimal": ("7", "0", "-1", "0.5", "100"),
    "email": ("ann@example.com",),
    "ipv4": ("192.0.2.1",),
    "ipv6": ("2001:db8::1",),
    "ipvanyaddress": ("192.0.2.1", "2001:db8::1"),
    "uri": ("https://example.com/a", "https://example.com/b"),
    "hostname": ("example.com",),
}
"""Texts of each format that restricts a text. Others, such as "binary", restrict nothing here."""
_WIDER = {
    **{f"uuid{version}": {"uuid"} for version in (1, 3, 4, 5)},
    "ipv4": {"ipvanyaddress"},
    "ipv6": {"ipvanyaddress"},
}
"""The formats that include another one."""
_ANY_TEXT = frozenset(("binary", "password", "path", "base64url"))


def kind_of(value: Any) -> str:
    """Return the JSON type of a value; a whole float is an integer, as in JSON Schema."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) or value.is_integer() else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def format_of(node: Node) -> str | None:
    """Return the format that restricts a text."""
    name = node.get("format")
    return None if name in _ANY_TEXT else name


def format_samples(node: Node) -> tuple[str, ...] | None:
    """Return texts of a format; None if it restricts nothing, empty if no text is known."""
    name = format_of(node)
    return None if name is None else FORMATS.get(name, ())


# --- one value


def number_problem(value: Any, node: Node) -> str | None:
    """Return why a number does not satisfy a schema."""
    exact = _exact(value)
    tests: tuple[tuple[str, Callable[[Fraction], bool], str], ...] = (
        ("minimum", lambda limit: exact >= limit, "below the minimum"),
        ("exclusiveMinimum", lambda limit: exact > limit, "not above"),
        ("maximum", lambda limit: exact <= limit, "above the maximum"),
        ("exclusiveMaximum", lambda limit: exact < limit, "not below"),
        ("multipleOf", lambda step: (exact / step).denominator == 1, "not a multiple of"),
    )
    for keyword, holds, says in tests:
        if keyword in node and not holds(_exact(node[keyword])):
            return f"{value} is {says} {node[keyword]}"
    return None


def string_problem(value: str, node: Node) -> tuple[str, bool] | None:
    """Return why a text does not satisfy a schema, and whether that is known."""
    if len(value) < node.get("minLength", 0):
        return f"it is shorter than {node['minLength']} characters", True
    if len(value) > node.get("maxLength", math.inf):
        return f"it is longer than {node['maxLength']} characters", True
    if "pattern" in node:
        found = _matches(node["pattern"], value)
        if not found:
            return f"it does not match the pattern {node['pattern']!r}", found is not None
    return _format_problem(value, node)


def _format_problem(value: str, node: Node) -> tuple[str, bool] | None:
    name = format_of(node)
    if name is None or value in FORMATS.get(name, ()):
        return None if name != "decimal" else _decimal_problem(value, node)
    if name == "decimal":
        return _decimal_problem(value, node)
    if name not in FORMATS:
        return f"the format {name!r} is not known", False
    others = {text for other, texts in FORMATS.items() if other != name for text in texts}
    is_plain = value in ("text", "", "a") or value in others
    return f"it has not the format {name!r}", is_plain


def _decimal_problem(value: str, node: Node) -> tuple[str, bool] | None:
    try:
        problem = number_problem(Decimal(value), node)
    except (InvalidOperation, ValueError, OverflowError):
        return "it is no decimal number", True
    return None if problem is None else (problem, True)


def _matches(pattern: str, value: str) -> bool | None:
    """Return whether a text matches; None if Python cannot compile the pattern."""
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return None


def _exact(value: Any) -> Fraction:
    return Fraction(str(value)) if isinstance(value, float) else Fraction(value)


# --- all values


def includes_numbers(written: Node, read: Node, *, is_integer: bool) -> Iterator[str]:
    """Yield reasons why numbers of one schema may not satisfy another."""
    low, high = _interval(written, is_integer)
    for keyword in ("minimum", "exclusiveMinimum"):
        if keyword in read and low < _lower(keyword, read[keyword], is_integer):
            yield f"{'at least' if keyword == 'minimum' else 'above'} {read[keyword]} is required"
    for keyword in ("maximum", "exclusiveMaximum"):
        if keyword in read and high > _upper(keyword, read[keyword], is_integer):
            yield f"{'at most' if keyword == 'maximum' else 'below'} {read[keyword]} is required"
    if "multipleOf" in read:
        step = _exact(written["multipleOf"]) if "multipleOf" in written else None
        if is_integer:
            step = step or Fraction(1)
        if step is None or (step / _exact(read["multipleOf"])).denominator != 1:
            yield f"a multiple of {read['multipleOf']} is required"


# A limit is a number and 0, or 1 if it is excluded below, -1 if it is excluded above.
Limit = tuple[Fraction | float, int]


def _lower(keyword: str, value: Any, is_integer: bool) -> Limit:
    exact = _exact(value)
    if is_integer:
        return math.floor(exact) + 1 if keyword[0] == "e" else math.ceil(exact), 0
    return exact, 1 if keyword[0] == "e" else 0


def _upper(keyword: str, value: Any, is_integer: bool) -> Limit:
    exact = _exact(value)
    if is_integer:
        return math.ceil(exact) - 1 if keyword[0] == "e" else math.floor(exact), 0
    return exact, -1 if keyword[0] == "e" else 0


def _interval(node: Node, is_integer: bool) -> tuple[Limit, Limit]:
    lows = [_lower(k, node[k], is_integer) for k in ("minimum", "exclusiveMinimum") if k in node]
    highs = [_upper(k, node[k], is_integer) for k in ("maximum", "exclusiveMaximum") if k in node]
    return max(lows, default=(-math.inf, 0)), min(highs, default=(math.inf, 0))


def includes_strings(written: Node, read: Node) -> Iterator[tuple[str, bool]]:
    """Yield reasons why texts of one schema may not satisfy another, and whether each is known."""
    if written.get("minLength", 0) < read.get("minLength", 0):
        yield f"at least {read['minLength']} characters are required", True
    if written.get("maxLength", math.inf) > read.get("maxLength", math.inf):
        yield f"at most {read['maxLength']} characters are read", True
    if "pattern" in read and written.get("pattern") != read["pattern"]:
        yield f"the pattern {read['pattern']!r} is required", "pattern" not in written
    old, new = format_of(written), format_of(read)
    if new is not None and new != old and new not in _WIDER.get(old or "", ()):
        was = "any text" if old is None else f"the format {old!r}"
        yield f"the format {new!r} is required, and {was} is written", True
    if old == new == "decimal":
        yield from ((says, True) for says in includes_numbers(written, read, is_integer=False))

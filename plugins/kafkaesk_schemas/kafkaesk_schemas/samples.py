"""Generates messages from a schema alone: a few of each kind, always the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from .scalars import format_samples, number_problem, string_problem

__all__ = ["TYPES", "samples"]

# Any below: values of JSON, and JSON Schemas.
Node = dict[str, Any]

TYPES = ("string", "integer", "number", "boolean", "null", "object", "array")
_DEEPEST = 6
_TEXTS = ("text", "", "a", "A", "0", "A-1", "abc", "12", "a1", "x" * 40)
_NUMBERS = (7, 0, 1, -1, 2, 100, 12, 3)
_PARTS = (0.5, -0.5, 1.25, 1e3)
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def samples(node: Any, definitions: Node, *, most: int = 24, depth: int = 0) -> list[Any]:
    """Return a limited number of values that satisfy a schema in normal form, usual ones first."""
    return list(islice(_unique(_samples(node, definitions, depth)), most))


def _unique(values: Iterable[Any]) -> Iterator[Any]:
    seen: list[str] = []
    for value in values:
        if (text := repr(value)) not in seen:
            seen.append(text)
            yield value


def _samples(node: Any, definitions: Node, depth: int) -> Iterator[Any]:
    if node is False or depth > _DEEPEST:
        return
    node = {} if node is True else node
    if "$ref" in node:
        target = definitions.get(node["$ref"].rpartition("/")[2], False)
        yield from _samples(target, definitions, depth + 1)
    elif not node.keys() & {"allOf", "not"}:
        if isinstance(node.get("examples"), list):
            yield from node["examples"]
        yield from _of_node(node, definitions, depth)


def _of_node(node: Node, definitions: Node, depth: int) -> Iterator[Any]:
    branches = node.get("anyOf", node.get("oneOf"))
    if "enum" in node:
        yield from node["enum"]
    elif branches is not None:
        yield from _of_branches(branches, definitions, depth)
    else:
        kinds = node.get("type", TYPES)
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            yield from _of_kind(kind, node, definitions, depth)


def _of_branches(branches: list[Any], definitions: Node, depth: int) -> Iterator[Any]:
    """Yield the first value of each alternative, then the other values."""
    found = [samples(branch, definitions, most=8, depth=depth) for branch in branches]
    yield from (values[0] for values in found if values)
    yield from (value for values in found for value in values[1:])


def _of_kind(kind: str, node: Node, definitions: Node, depth: int) -> Iterator[Any]:
    if kind == "null":
        yield None
    elif kind == "boolean":
        yield from (True, False)
    elif kind in ("integer", "number"):
        yield from _numbers(kind, node)
    elif kind == "string":
        yield from _strings(node)
    elif kind == "array":
        yield from _arrays(node, definitions, depth)
    else:
        yield from _objects(node, definitions, depth)


def _numbers(kind: str, node: Node) -> Iterator[int | float]:
    near: list[int | float] = []
    for limit in (node[word] for word in _LIMITS if word in node):
        whole = int(limit)
        near += [whole, whole + 1, whole - 1]
        near += [] if kind == "integer" else [limit, limit + 0.5, limit - 0.5]
    step = node.get("multipleOf", 0)
    near += [step, step * 2, step * 3] if kind == "number" or isinstance(step, int) else []
    others = _PARTS if kind == "number" else ()
    return (n for n in (*_NUMBERS, *others, *near) if number_problem(n, node) is None)


def _strings(node: Node) -> Iterator[str]:
    known = format_samples(node)
    shortest, longest = node.get("minLength", 0), node.get("maxLength", 0)
    sized = ["x" * shortest, "x" * longest] if longest < 10_000 else ["x" * shortest]
    candidates = (*_TEXTS, *sized) if known is None else known
    return (text for text in candidates if string_problem(text, node) is None)


def _arrays(node: Node, definitions: Node, depth: int) -> Iterator[list[Any]]:
    fewest, most = node.get("minItems", 0), node.get("maxItems", 1_000)
    first = [
        samples(each, definitions, most=4, depth=depth + 1) for each in node.get("prefixItems", ())
    ]
    items = node.get("items", True)
    rest = [] if items is False else samples(items, definitions, most=8, depth=depth + 1)
    if all(first):
        head = [values[0] for values in first]
        for size in dict.fromkeys((max(fewest, len(head), 1), fewest, len(head), min(most, 3))):
            if (made := _filled(head, rest, size, node)) is not None and fewest <= size <= most:
                yield made
        for place, values in enumerate(first):
            yield from ([*head[:place], value, *head[place + 1 :]] for value in values[1:])
    if not first and fewest <= 1 <= most:
        yield from ([value] for value in rest[1:])


def _filled(head: list[Any], rest: list[Any], size: int, node: Node) -> list[Any] | None:
    missing = size - len(head)
    if missing <= 0:
        return head[:size]
    if node.get("uniqueItems"):
        return head + rest[:missing] if len(rest) >= missing else None
    return head + [rest[0]] * missing if rest else None


def _objects(node: Node, definitions: Node, depth: int) -> Iterator[Node]:
    properties, required = node.get("properties", {}), set(node.get("required", ()))
    extra = node.get("additionalProperties", True)
    missing = dict.fromkeys(sorted(required - set(properties)), extra)
    found = {
        name: samples(each, definitions, most=8, depth=depth + 1)
        for name, each in (properties | missing).items()
    }
    if not all(found[name] for name in required):
        return
    full = {name: values[0] for name, values in found.items() if values}
    if properties:
        yield full
        yield {name: value for name, value in full.items() if name in required}
        yield from _varied(full, found)
    if not properties or extra is not False:
        yield from ({**full, **more} for more in _with_keys(node, definitions, depth))
    if not properties:
        yield full


def _varied(full: Node, found: dict[str, list[Any]]) -> Iterator[Node]:
    """Yield objects that differ in one property, starting with each property's second value."""
    for place in range(1, max(map(len, found.values()), default=0)):
        for name, values in found.items():
            if place < len(values):
                yield {**full, name: values[place]}


def _with_keys(node: Node, definitions: Node, depth: int) -> Iterator[Node]:
    """Yield objects with keys that are not named properties."""
    kinds = [
        ("", node.get("additionalProperties", True)),
        *node.get("patternProperties", {}).items(),
    ]
    names = samples({"type": "string", **_names_of(node)}, definitions, most=4, depth=depth + 1)
    for pattern, each in kinds:
        keys = [key for key in (*names, *_strings({"pattern": pattern})) if key]
        values = [] if each is False else samples(each, definitions, most=4, depth=depth + 1)
        keys = [k for k in keys if string_problem(k, {"pattern": pattern}) is None]
        yield from ({keys[0]: value} for value in values if keys)


def _names_of(node: Node) -> Node:
    names = node.get("propertyNames", {})
    return names if isinstance(names, dict) else {}

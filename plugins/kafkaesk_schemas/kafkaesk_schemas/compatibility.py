"""Checks whether a reader understands everything that a writer may write, and if not, why.

The writer's schema describes the messages on the wire; the reader's schema describes the messages
that its model accepts. Each part of the writer's schema that may not be understood is a problem.
The problem is known if a message can be made that the reader's schema refuses, else unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from .generation import ALIASES, UNKNOWN, WORDS
from .samples import TYPES, samples
from .scalars import (
    NUMBERS,
    STRINGS,
    includes_numbers,
    includes_strings,
    kind_of,
    number_problem,
    string_problem,
)

__all__ = ["Problem", "accepts", "find_problems"]

# Any below: values of JSON, and JSON Schemas in normal form.
Node = dict[str, Any]

_ARRAYS = frozenset(("items", "prefixItems", "minItems", "maxItems", "uniqueItems"))
_OBJECTS = frozenset(
    ("properties", "required", "additionalProperties", "patternProperties", "propertyNames")
) | {"minProperties", "maxProperties"}
_KNOWN = NUMBERS | STRINGS | _ARRAYS | _OBJECTS | WORDS
_KNOWN |= {"type", "enum", "anyOf", "oneOf", "allOf", "$ref", "$defs", ALIASES}
_KNOWN |= {"contentMediaType", "contentEncoding", "contentSchema"}
_BRANCHES = ("anyOf", "oneOf")
_PROOFS, _CHOICES = 4, 16


@dataclass(frozen=True, slots=True)
class Problem:
    """A part that a reader does not understand: the place, the reason, and example messages.

    With `is_known` False it is unknown whether the reader understands them.
    """

    path: str
    reason: str
    messages: tuple[Any, ...] = ()
    is_known: bool = True

    def __str__(self) -> str:
        return f"{self.path or 'the message'}: {self.reason}"


def find_problems(written: Any, read: Any) -> list[Problem]:
    """Return the problems of a reader with schema `read` for a writer with schema `written`.

    Both schemas are in normal form. The messages of each problem satisfy `written` but not `read`;
    a problem without such a message is unknown.
    """
    comparison = _Comparison(written, read)
    found = []
    for problem in comparison.compare(written, read, ""):
        proofs = (one for one in problem.messages if _is_proof(one, written, read))
        made = tuple(islice(proofs, _PROOFS))
        found.append(replace(problem, messages=made, is_known=problem.is_known and bool(made)))
    return found


def _is_proof(message: Any, written: Any, read: Any) -> bool:
    return accepts(written, message) is True and accepts(read, message) is False


def accepts(schema: Any, value: Any) -> bool | None:
    """Return whether a value satisfies a schema in normal form; None if that is unknown."""
    comparison = _Comparison({}, schema)
    problems = list(comparison.compare(_schema_of(value), schema, ""))
    if any(problem.is_known for problem in problems):
        return False
    return None if problems else True


def _schema_of(value: Any) -> Node:
    """Return the schema of exactly this value."""
    kind = kind_of(value)
    if kind == "array":
        texts = [repr(each) for each in value]
        size: Node = {"minItems": len(value), "maxItems": len(value)}
        unique = {"uniqueItems": True} if len(set(texts)) == len(texts) else {}
        items = [_schema_of(each) for each in value]
        return {"type": "array", "prefixItems": items, "items": False, **size, **unique}
    if kind == "object":
        properties = {name: _schema_of(each) for name, each in value.items()}
        names = {"required": sorted(value), "additionalProperties": False}
        return {"type": "object", "properties": properties, **names}
    return {"enum": [value]}


class _Comparison:
    def __init__(self, written: Any, read: Any) -> None:
        self._written = _definitions(written)
        self._read = _definitions(read)
        self._open: list[tuple[Any, Any]] = []
        """Pairs of recursive schemas that are being compared; each is assumed to be understood."""

    def compare(self, written: Any, read: Any, path: str) -> Iterator[Problem]:
        pair = (written, read)
        is_reference = isinstance(written, dict) and "$ref" in written
        if is_reference or (isinstance(read, dict) and "$ref" in read):
            if any(one is written and other is read for one, other in self._open):
                return
            self._open.append(pair)
            yield from self._resolved(
                _resolve(written, self._written), _resolve(read, self._read), path
            )
            return
        yield from self._resolved(written, read, path)

    def _resolved(self, written: Any, read: Any, path: str) -> Iterator[Problem]:
        if written is False or read is True:
            return
        if read is False:
            yield Problem(path, "it is written, and must not be there", self._values(written))
            return
        written = {} if written is True else written
        if unknown := _unknown_keywords(read):
            yield Problem(path, f"what {unknown} means is not known here", is_known=False)
            return
        is_known = not _unknown_keywords(written)
        for problem in self._known(written, read, path):
            yield problem if is_known else replace(problem, is_known=False)

    def _known(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        if "allOf" in read:
            rest = {key: v for key, v in read.items() if key != "allOf"}
            for part in (*read["allOf"], rest):
                yield from self.compare(written, part, path)
        elif not _constrains(read):
            return
        elif "allOf" in written:
            yield from self._of_all(written, read, path)
        elif "enum" in written:
            yield from self._of_values(written["enum"], read, path)
        elif branches := _branches_of(written):
            for branch in branches:
                yield from self.compare(branch, read, path)
        else:
            yield from self._of_one_type(written, read, path)

    def _of_one_type(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        branches = _branches_of(read, has_type=True)
        if branches:
            yield from self._of_choice(written, branches, read, path)
        else:
            yield from self._of_kind(written, read, path)

    # --- the ways to say several things at once

    def _of_all(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        """Compare a value that satisfies several schemas; understanding one may be enough."""
        rest = {key: v for key, v in written.items() if key != "allOf"}
        found = [list(self.compare(p, read, path)) for p in (*written["allOf"], rest)]
        if all(found):
            yield replace(min(found, key=len)[0], messages=(), is_known=False)

    def _of_values(self, values: Iterable[Any], read: Node, path: str) -> Iterator[Problem]:
        refused = [value for value in values if _refusal(value, read, self) is not None]
        if not refused:
            return
        reason, is_known = _refusal(refused[0], read, self) or ("", True)
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        said = f"{_shown(refused[0])}{more} is written, and {reason}"
        yield Problem(path, said, tuple(refused), is_known)

    def _of_choice(
        self, written: Node, branches: list[Any], read: Node, path: str
    ) -> Iterator[Problem]:
        """Compare with a choice: one schema understands everything, or each understands a part."""
        is_exclusive = "oneOf" in read
        found = [list(self._alone(written, branch, path)) for branch in branches]
        if not all(found):
            if is_exclusive and sum(not one for one in found) + _may_overlap(branches) > 1:
                yield Problem(path, "exactly one of several schemas must fit", is_known=False)
            return
        if parts := _split(written, self._written):
            for part in parts:
                yield from self.compare(part, read, path)
            return
        closest = min(found, key=lambda problems: (_distance(problems, path), len(problems)))
        values = self._values(written)
        for problem in closest:
            if problem.path == path and problem.reason.startswith("it is written as"):
                kinds = sorted({k for branch in branches for k in _kinds(branch, self._read)})
                said = f"it is written as {_a(_kind(written))}, and read as {' or '.join(kinds)}"
                problem = replace(problem, reason=said)
            yield replace(problem, messages=(*problem.messages, *values))

    def _alone(self, written: Any, read: Any, path: str) -> Iterator[Problem]:
        """Compare; after a failure, forget the assumptions made on the way."""
        before = len(self._open)
        found = list(self.compare(written, read, path))
        if found:
            del self._open[before:]
        yield from found

    # --- one kind of value

    def _of_kind(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        kind = _kind(written)
        if kind in ("boolean", "null"):
            few: list[Any] = [True, False] if kind == "boolean" else [None]
            yield from self._of_values(few, read, path)
            return
        if "enum" in read:
            texts = ", ".join(map(_shown, read["enum"][:5]))
            values = self._values(written)
            yield Problem(path, f"only {texts} {_are(read['enum'])} read", values)
            return
        wanted = read.get("type", kind)
        if wanted != kind and not (kind == "integer" and wanted == "number"):
            said = f"it is written as {_a(kind)}, and read as {_a(wanted)}"
            yield Problem(path, said, self._values(written))
            return
        compare: Callable[[Node, Node, str], Iterator[Problem]] = {
            "string": self._strings,
            "array": self._arrays,
            "object": self._objects,
        }.get(kind, self._numbers)
        yield from compare(written, read, path)

    def _numbers(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        is_integer = written["type"] == "integer"
        for said in includes_numbers(written, read, is_integer=is_integer):
            # Numbers near the limits of the reader are what it refuses.
            yield Problem(path, said, self._values(written, _limits_of(read)))

    def _strings(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        for said, is_known in includes_strings(written, read):
            yield Problem(path, said, self._values(written, _lengths_of(read)), is_known)

    def _arrays(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        most, fewest = written.get("maxItems"), written.get("minItems", 0)
        if fewest < read.get("minItems", 0):
            said = f"at least {read['minItems']} items are required"
            yield Problem(path, said, self._values(written))
        if "maxItems" in read and (most is None or most > read["maxItems"]):
            longer = self._values({**written, "minItems": read["maxItems"] + 1})
            yield Problem(path, f"at most {read['maxItems']} items are read", longer)
        if read.get("uniqueItems") and not written.get("uniqueItems") and most not in (0, 1):
            twice = tuple([*value, value[0]] for value in self._values(written) if value)
            yield Problem(path, "items must not be repeated", twice)
        heads, other_heads = written.get("prefixItems", []), read.get("prefixItems", [])
        for place in range(max(len(heads), len(other_heads))):
            if most is not None and place >= most:
                return
            one = heads[place] if place < len(heads) else written.get("items", True)
            other = other_heads[place] if place < len(other_heads) else read.get("items", True)
            yield from self._items(written, one, other, f"{path}[{place}]", place)
        if most is None or most > max(len(heads), len(other_heads)):
            place = max(len(heads), len(other_heads))
            one, other = written.get("items", True), read.get("items", True)
            yield from self._items(written, one, other, f"{path}[]", place)

    def _items(
        self, written: Node, one: Any, other: Any, path: str, place: int
    ) -> Iterator[Problem]:
        for problem in self.compare(one, other, path):
            size = max(place + 1, written.get("minItems", 0))
            whole = self._values({**written, "minItems": size})[:1]
            made = tuple(
                [*array[:place], value, *array[place + 1 :]]
                for array in whole
                for value in problem.messages
            )
            yield replace(problem, messages=made)

    def _objects(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        properties: Node = written.get("properties", {})
        always = set(written.get("required", ()))
        extra = written.get("additionalProperties", True)
        names = _names_of(read)
        yield from self._required(written, read, names, path)
        for name, each in properties.items():
            other = names.get(name, _Missing)
            below = f"{path}.{name}" if path else name
            if other is _Missing:
                yield from self._not_named(written, name, each, read, below)
            else:
                yield from self._below(written, name, each, other, below)
        for name, other in read.get("properties", {}).items():
            if extra is not False and not {name, *_aliases(other)} & set(properties):
                below = f"{path}.{name}" if path else name
                yield from self._below(written, name, extra, other, below)
        yield from self._other_keys(written, read, path)
        yield from self._counts(written, read, always, path)

    def _required(
        self, written: Node, read: Node, names: Mapping[str, Any], path: str
    ) -> Iterator[Problem]:
        always = set(written.get("required", ()))
        for name in read.get("required", ()):
            accepted = {name, *_aliases(names.get(name, True))}
            if always & accepted:
                continue
            below = f"{path}.{name}" if path else name
            without = tuple(
                {key: v for key, v in value.items() if key not in accepted}
                for value in self._values(written)
            )
            may_be_there = accepted & set(written.get("properties", {}))
            said = "it is required, and " + (
                "not always written" if may_be_there else "not written"
            )
            yield Problem(below, said, without)

    def _not_named(
        self, written: Node, name: str, each: Any, read: Node, below: str
    ) -> Iterator[Problem]:
        """Compare a property that the reader does not name."""
        rest = read.get("additionalProperties", True)
        if patterns := read.get("patternProperties"):
            fitting = [p for p in patterns if string_problem(name, {"pattern": p}) is None]
            for pattern in fitting:
                yield from self._below(written, name, each, patterns[pattern], below)
            if fitting:
                return
        if rest is False:
            values = self._with(written, name, self._values(each))
            yield Problem(below, "it is written, and refused by the reader", values)
        else:
            yield from self._below(written, name, each, rest, below)

    def _below(
        self, written: Node, name: str, each: Any, other: Any, below: str
    ) -> Iterator[Problem]:
        for problem in self.compare(each, other, below):
            yield replace(problem, messages=self._with(written, name, problem.messages))

    def _other_keys(self, written: Node, read: Node, path: str) -> Iterator[Problem]:
        """Compare keys that neither names: in dictionaries, and models that keep unknown keys."""
        below = f"{path}.*" if path else "*"
        patterns, others = written.get("patternProperties", {}), read.get("patternProperties", {})
        extra, rest = (
            written.get("additionalProperties", True),
            read.get("additionalProperties", True),
        )
        if others and others.keys() != patterns.keys() and (extra is not False or patterns):
            yield Problem(below, "keys must match other patterns", self._values(written))
        elif patterns:
            for pattern, each in patterns.items():
                yield from self._below(written, "a", each, others.get(pattern, rest), below)
        if extra is not False and not (others and others.keys() != patterns.keys()):
            for problem in self.compare(extra, rest, below):
                made = (self._with(written, key, problem.messages) for key in ("key", "text", "a"))
                yield replace(problem, messages=tuple(one for some in made for one in some))
        if "propertyNames" in read and extra is not False:
            names = {"type": "string", **_plain(written.get("propertyNames"))}
            for problem in self.compare(names, read["propertyNames"], below):
                keyed = self._keyed(written, problem.messages)
                yield replace(problem, reason=f"as a key, {problem.reason}", messages=keyed)

    def _counts(self, written: Node, read: Node, always: set[str], path: str) -> Iterator[Problem]:
        fewest = max(written.get("minProperties", 0), len(always))
        is_closed = written.get("additionalProperties", True) is False
        is_closed = is_closed and "patternProperties" not in written
        most = len(written.get("properties", {})) if is_closed else None
        most = min((n for n in (most, written.get("maxProperties")) if n is not None), default=None)
        if fewest < read.get("minProperties", 0):
            said = f"at least {read['minProperties']} keys are required"
            yield Problem(path, said, self._values(written))
        if "maxProperties" in read and (most is None or most > read["maxProperties"]):
            yield Problem(
                path, f"at most {read['maxProperties']} keys are read", self._values(written)
            )

    # --- messages

    def _values(self, written: Any, *near: Any) -> tuple[Any, ...]:
        found = samples(written, self._written)
        for more in near:
            found += [value for value in more if accepts_plain(written, value)]
        return tuple(found)

    def _with(self, written: Node, name: str, values: Iterable[Any]) -> tuple[Any, ...]:
        """Return objects of the writer with these values in one place."""
        known = samples({**written, "required": written.get("required", [])}, self._written, most=1)
        return tuple({**whole, name: value} for whole in known for value in values)

    def _keyed(self, written: Node, keys: Iterable[Any]) -> tuple[Any, ...]:
        extra = written.get("additionalProperties", True)
        values = samples(extra, self._written, most=1)
        return tuple({key: value} for key in keys for value in values)


def accepts_plain(node: Node, value: Any) -> bool:
    """Return whether a text or a number satisfies a schema of its type."""
    if isinstance(value, str):
        return string_problem(value, node) is None
    return number_problem(value, node) is None


class _Missing:
    """Stands for a missing property."""


def _refusal(value: Any, read: Node, comparison: _Comparison) -> tuple[str, bool] | None:
    """Return why a value is refused, and whether that is known."""
    if branches := _branches_of(read, has_type=True):
        found = [_first(comparison.compare(_schema_of(value), branch, "")) for branch in branches]
        return _refusal_of_all(found, is_exclusive="oneOf" in read)
    if "enum" in read:
        is_there = any(_is_same(value, each) for each in read["enum"])
        return None if is_there else ("is none of the values that are read", True)
    if kind_of(value) in ("array", "object"):
        first = _first(comparison.compare(_schema_of(value), read, ""))
        return None if first is None else (first.reason, first.is_known)
    return _refusal_of_scalar(value, read)


def _refusal_of_all(found: list[Problem | None], *, is_exclusive: bool) -> tuple[str, bool] | None:
    """Return why none of several schemas accepts a value."""
    fitting = sum(one is None for one in found)
    if fitting:
        is_unclear = is_exclusive and fitting > 1
        return ("exactly one of several schemas must fit", False) if is_unclear else None
    is_known = all(problem is None or problem.is_known for problem in found)
    return "none of the types that are read takes it", is_known


def _refusal_of_scalar(value: Any, read: Node) -> tuple[str, bool] | None:
    kind, wanted = kind_of(value), read.get("type")
    if wanted is not None and wanted != kind and (kind, wanted) != ("integer", "number"):
        return f"read as {_a(wanted)}", True
    if kind == "string":
        return string_problem(value, read)
    problem = number_problem(value, read) if kind in ("integer", "number") else None
    return None if problem is None else (problem, True)


def _first(problems: Iterator[Problem]) -> Problem | None:
    """Return the first known problem, else the first problem."""
    found = list(problems)
    return next((one for one in found if one.is_known), found[0] if found else None)


# --- schemas


def _definitions(schema: Any) -> Node:
    found: Node = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    return found


def _resolve(node: Any, definitions: Node) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        target = definitions.get(node["$ref"].rpartition("/")[2], {UNKNOWN: node["$ref"]})
        beside = {key: v for key, v in node.items() if key not in ("$ref", "$defs")}
        node = {**target, **beside} if beside and isinstance(target, dict) else target
    return node


def _constrains(node: Node) -> bool:
    return bool(node.keys() - WORDS - {ALIASES, "$defs"})


def _unknown_keywords(node: Node) -> str:
    if UNKNOWN in node:
        return str(node[UNKNOWN])
    unknown = sorted(key for key in node if key not in _KNOWN and not key.startswith("x-"))
    return ", ".join(map(repr, unknown))


def _branches_of(node: Node, *, has_type: bool = False) -> list[Any]:
    """Return the alternatives of a schema, each merged with the keywords beside them."""
    for word in _BRANCHES:
        if word in node:
            beside = {
                key: v
                for key, v in node.items()
                if key != word and key not in WORDS and key not in (ALIASES, "$defs")
            }
            return [{"allOf": [one, beside]} if beside else one for one in node[word]]
    kinds = node.get("type")
    if isinstance(kinds, list):
        return [{**node, "type": kind} for kind in kinds]
    if kinds is None and not has_type and "enum" not in node:
        return [{**node, "type": kind} for kind in TYPES if kind != "integer"]
    return []


def _split(written: Node, definitions: Node) -> list[Node]:
    """Split objects by a property with few values, which may discriminate the reader's types."""
    properties = written.get("properties", {})
    for name in written.get("required", ()):
        each = _resolve(properties.get(name, True), definitions)
        values = each.get("enum", ()) if isinstance(each, dict) else ()
        if 1 < len(values) <= _CHOICES:
            return [
                {**written, "properties": {**properties, name: {"enum": [value]}}}
                for value in values
            ]
    return []


def _may_overlap(branches: list[Any]) -> int:
    """Return 1 unless the schemas have different types."""
    kinds = [branch.get("type") if isinstance(branch, dict) else None for branch in branches]
    is_disjoint = None not in kinds and len(set(map(str, kinds))) == len(kinds)
    return 0 if is_disjoint and {"integer", "number"} - set(map(str, kinds)) else 1


def _distance(problems: list[Problem], path: str) -> int:
    """Return 2 for another type, 1 for another value at this place, 0 for a deeper problem."""
    here = [problem for problem in problems if problem.path == path]
    if any(problem.reason.startswith("it is written as") for problem in here):
        return 3
    names_another = any("none of the values" in problem.reason for problem in problems)
    return 2 if names_another else bool(here)


def _kinds(node: Any, definitions: Node) -> Iterator[str]:
    node = _resolve(node, definitions)
    if not isinstance(node, dict):
        return
    if "enum" in node:
        yield from (_a(kind_of(value)) for value in node["enum"])
    for branch in _branches_of(node, has_type=True):
        yield from _kinds(branch, definitions)
    if isinstance(node.get("type"), str):
        yield _a(node["type"])


def _kind(node: Node) -> str:
    return str(node["type"])


def _names_of(read: Node) -> Node:
    """Return the properties by every name under which they are read."""
    properties: Node = read.get("properties", {})
    others = {alias: each for each in properties.values() for alias in _aliases(each)}
    return others | properties


def _aliases(node: Any) -> list[str]:
    found: list[str] = node.get(ALIASES, []) if isinstance(node, dict) else []
    return found


def _plain(node: Any) -> Node:
    return node if isinstance(node, dict) else {}


def _limits_of(read: Node) -> list[Any]:
    limits = [read[word] for word in NUMBERS if word in read]
    return [value for limit in limits for value in (limit, limit - 1, limit + 1)]


def _lengths_of(read: Node) -> list[str]:
    shortest, longest = read.get("minLength", 0), read.get("maxLength", 0)
    return ["x" * size for size in (shortest - 1, longest + 1) if 0 <= size < 10_000]


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) and (isinstance(one, bool) == isinstance(other, bool))


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _are(values: list[Any]) -> str:
    return "are" if len(values) > 1 else "is"


def _a(kind: str) -> str:
    article = {"null": "", "integer": "an ", "array": "an ", "object": "an "}.get(kind, "a ")
    return f"{article}{kind}"

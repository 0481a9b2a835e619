"""Proves from an instance's types that its JSON is valid, faster than parsing the JSON.

The check accepts an instance only if every field, at every level, holds exactly the type of its
annotation: pydantic can read the JSON that it writes for such values. It leaves everything else to
the validator: constraints, aliases, validators, subclasses, and types not named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from itertools import count
from math import isfinite
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import TzInfo

__all__ = ["make_type_check"]

# Any below: pydantic's core schemas, nested dictionaries of many shapes, and the values of fields.
Node = dict[str, Any]

_TESTS = {
    "bool": "type({0}) is bool",
    "int": "type({0}) is int and -0x8000000000000000 <= {0} <= 0x7fffffffffffffff",
    "float": "type({0}) is float and isfinite({0})",
    "str": "type({0}) is str",
    "uuid": "type({0}) is UUID",
    "date": "type({0}) is date and {0}.year > 999",
    "datetime": "type({0}) is datetime and {0}.year > 999"
    " and ((zone := {0}.tzinfo) is None or zone is UTC or type(zone) is TzInfo)",
}
"""Tests of values that can be read back, by core schema. JSON readers limit an integer, and
a year before 1000 is written with fewer digits than the reader requires."""
_NAMES = {
    "UTC": UTC,
    "UUID": UUID,
    "TzInfo": TzInfo,
    "date": date,
    "datetime": datetime,
    "isfinite": isfinite,
}
_PLAIN = frozenset(("type", "metadata", "ref", "strict"))
"""Keys of a core schema that constrain no value."""
_PLAIN_OF = {
    "datetime": _PLAIN | {"microseconds_precision"},
    "date": _PLAIN | {"microseconds_precision"},
    "default": _PLAIN | {"schema", "default", "default_factory", "default_factory_takes_data"},
    "definitions": _PLAIN | {"schema", "definitions"},
    "definition-ref": _PLAIN | {"schema_ref"},
    "nullable": _PLAIN | {"schema"},
    "list": _PLAIN | {"items_schema"},
    "dict": _PLAIN | {"keys_schema", "values_schema"},
    "enum": _PLAIN | {"cls", "members", "sub_type"},
    "literal": _PLAIN | {"expected"},
    "model-field": _PLAIN | {"schema"},
    "model-fields": _PLAIN | {"fields", "model_name", "computed_fields", "extra_behavior"},
}
_PLAIN_CONFIG = frozenset(("title", "frozen", "extra_fields_behavior", "revalidate_instances"))


class _NotProvableError(Exception):
    """The types of the values cannot prove that they satisfy the schema."""


def make_type_check(model: type[BaseModel]) -> Callable[[Any], bool] | None:
    """Return a function that accepts valid instances; None if types cannot prove validity."""
    writer = _Writer()
    try:
        core: Any = model.__pydantic_core_schema__
        body = list(writer.write(core, "value", 2))
    except _NotProvableError:
        return None
    lines = ["def check(value):", " try:", *body, "  return True", " except KeyError:"]
    # One function with all tests in its body, as dataclasses makes its methods: a call per field
    # would cost as much as the validator.
    exec("\n".join([*lines, "  return False"]), writer.names)
    check: Callable[[Any], bool] = writer.names["check"]
    return check


class _Writer:
    """Writes the code that tests one model; `names` are the objects that the code uses."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = dict(_NAMES)
        self._variables = count()
        self._shared: dict[str, Node] = {}
        self._open: set[str] = set()
        self._writers: dict[str, Callable[[Node, str, int], Iterator[str]]] = {
            **dict.fromkeys(_TESTS, self._write_test),
            **dict.fromkeys(("list", "dict"), self._write_container),
            **dict.fromkeys(("enum", "literal"), self._write_choice),
            "default": lambda node, value, depth: self.write(node["schema"], value, depth),
            "nullable": self._write_nullable,
            "definitions": self._write_definitions,
            "definition-ref": self._write_shared,
        }

    def write(self, node: Node, value: str, depth: int) -> Iterator[str]:
        """Return lines of code that return False unless the expression `value` fits the schema."""
        kind = node["type"]
        if kind == "model":
            return self._write_model(node, value, depth)
        if kind not in self._writers or set(node) - _PLAIN_OF.get(kind, _PLAIN):
            raise _NotProvableError
        return self._writers[kind](node, value, depth)

    def _write_test(self, node: Node, value: str, depth: int) -> Iterator[str]:
        yield f"{' ' * depth}if not ({_TESTS[node['type']].format(value)}): return False"

    def _write_nullable(self, node: Node, value: str, depth: int) -> Iterator[str]:
        yield f"{' ' * depth}if {value} is not None:"
        yield from self.write(node["schema"], value, depth + 1)

    def _write_definitions(self, node: Node, value: str, depth: int) -> Iterator[str]:
        self._shared |= {each["ref"]: each for each in node["definitions"]}
        yield from self.write(node["schema"], value, depth)

    def _write_shared(self, node: Node, value: str, depth: int) -> Iterator[str]:
        """Write a schema that is used several times; refuse a recursive one."""
        ref = node["schema_ref"]
        if ref in self._open:
            raise _NotProvableError
        self._open.add(ref)
        yield from self.write(self._shared[ref], value, depth)
        self._open.remove(ref)

    def _write_container(self, node: Node, value: str, depth: int) -> Iterator[str]:
        kind, pad = node["type"], " " * depth
        key, item = self._variable(), self._variable()
        items = node.get("items_schema" if kind == "list" else "values_schema")
        if items is None:  # of anything
            raise _NotProvableError
        yield f"{pad}if type({value}) is not {kind}: return False"
        if kind == "list":
            yield f"{pad}for {item} in {value}:"
        else:
            keys = node.get("keys_schema", {})
            if keys.get("type") != "str":  # a key is text in JSON
                raise _NotProvableError
            yield f"{pad}for {key}, {item} in {value}.items():"
            yield from self.write(keys, key, depth + 1)
        yield from self.write(items, item, depth + 1)

    def _write_choice(self, node: Node, value: str, depth: int) -> Iterator[str]:
        """Write an enum of text, or literals of text; numbers may equal those of other types."""
        is_enum = node["type"] == "enum"
        values = [each.value for each in node["members"]] if is_enum else node["expected"]
        if not all(type(each) is str for each in values):
            raise _NotProvableError
        if is_enum:
            test = f"type({value}) is {self._name(node['cls'])}"
        else:
            test = f"type({value}) is str and {value} in {self._name(frozenset(values))}"
        yield f"{' ' * depth}if not ({test}): return False"

    def _write_model(self, node: Node, value: str, depth: int) -> Iterator[str]:
        inner, pad, config = node["schema"], " " * depth, node.get("config", {})
        keeps_extra = "allow" in (config.get("extra_fields_behavior"), inner.get("extra_behavior"))
        if (
            any(
                node.get(key) for key in ("custom_init", "post_init", "root_model", "serialization")
            )
            or inner["type"] != "model-fields"
            or inner.get("computed_fields")
            or keeps_extra
            or set(inner) - _PLAIN_OF["model-fields"]
            or set(config) - _PLAIN_CONFIG
        ):
            raise _NotProvableError
        held, one = self._variable(), self._variable()
        yield f"{pad}if type({value}) is not {self._name(node['cls'])}: return False"
        yield f"{pad}{held} = {value}.__dict__"
        yield f"{pad}if len({held}) != {len(inner['fields'])}: return False"
        for name, field in inner["fields"].items():
            if set(field) - _PLAIN_OF["model-field"]:
                raise _NotProvableError
            yield f"{pad}{one} = {held}[{name!r}]"
            yield from self.write(field["schema"], one, depth)

    def _variable(self) -> str:
        return f"v{next(self._variables)}"

    def _name(self, held: Any) -> str:
        name = f"c{next(self._variables)}"
        self.names[name] = held
        return name

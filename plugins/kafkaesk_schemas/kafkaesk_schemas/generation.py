"""The JSON Schema of a model, in the normal form for comparing contracts.

Pydantic describes the data that a model writes ("serialization") and reads ("validation"). This
generator is more precise than pydantic's own: fields with a default are always written, a decimal
is not an arbitrary text, and a field may be read by several names. `normalize` then removes
differences between pydantic's versions, and mere descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

__all__ = ["ALIASES", "UNKNOWN", "WORDS", "describe_model", "normalize", "without_words"]

# Any below: JSON Schemas and pydantic's core schemas, nested dictionaries of many shapes.
Node = dict[str, Any]

ALIASES = "x-aliases"
"""Further names under which a property is read."""
UNKNOWN = "x-unknown"
"""Why pydantic cannot describe a type."""
WORDS = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
) | {"$comment", "$schema", "$id", "discriminator"}
"""Keywords that do not affect the validity of messages."""
_OF_SCHEMAS = ("properties", "patternProperties", "$defs")
_OF_ONE = ("items", "additionalProperties", "propertyNames", "not", "contentSchema")
_OF_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
_NUMBERS = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def describe_model(model: type[BaseModel], mode: Literal["written", "read"]) -> Node:
    """Return the JSON Schema of the data that a model writes or reads, in normal form."""
    pydantic_mode: Literal["serialization", "validation"] = (
        "serialization" if mode == "written" else "validation"
    )
    raw = model.model_json_schema(mode=pydantic_mode, schema_generator=_Generator)
    return normalize(raw, is_closed=mode == "written", keeps_default=mode == "read")


class _Generator(GenerateJsonSchema):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._by_name = [False]

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Ignore the warning: a default that is not valid JSON is only a description."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Node:
        return {UNKNOWN: error_info}

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def generate_inner(self, schema: Any) -> Node:
        words = schema.get("serialization", {})
        if self.mode == "serialization" and words.get("type") == "to-string":
            plain = {key: v for key, v in schema.items() if key != "serialization"}
            inner = super().generate_inner(plain)
            if inner.get("type") == "string":
                return inner  # a URL is more than text
        return super().generate_inner(schema)

    def decimal_schema(self, schema: Any) -> Node:
        limits = {word: float(schema[key]) for key, word in _NUMBERS.items() if key in schema}
        text = {"type": "string", "format": "decimal", **limits}
        if self.mode == "serialization":
            return text
        return {"anyOf": [{"type": "number", **limits}, text]}

    def model_schema(self, schema: Any) -> Node:
        config = schema["cls"].model_config
        self._by_name.append(bool(config.get("validate_by_name") or config.get("populate_by_name")))
        try:
            return super().model_schema(schema)
        finally:
            self._by_name.pop()

    def model_fields_schema(self, schema: Any) -> Node:
        described = super().model_fields_schema(schema)
        if self.mode == "validation":
            properties = described["properties"]
            for name, field in schema["fields"].items():
                first, *others = dict.fromkeys(self._names(name, field))
                if others and first in properties:
                    properties[first] = {**properties[first], ALIASES: others}
        return described

    def _names(self, name: str, field: Node) -> Iterator[str]:
        """Return the names under which a field is read; the schema has the first one."""
        alias = field.get("validation_alias", name)
        paths = [[alias]] if isinstance(alias, str) else alias
        if isinstance(paths[0], str):
            paths = [paths]
        yield from (path[0] for path in paths if len(path) == 1)
        if self._by_name[-1] or not any(len(path) == 1 for path in paths):
            yield name


# --- the normal form


def normalize(schema: Mapping[str, Any], *, is_closed: bool, keeps_default: bool = True) -> Node:
    """Return a schema without needless references, with one form for each meaning.

    With `is_closed`, objects have only the named properties.
    """
    return _Normalizer(schema, is_closed=is_closed, keeps_default=keeps_default).normalize()


class _Normalizer:
    def __init__(self, root: Mapping[str, Any], *, is_closed: bool, keeps_default: bool) -> None:
        self._root = dict(root)
        self._is_closed = is_closed
        self._dropped = {"title", "$schema"} | (set() if keeps_default else {"default"})
        self._recursive: dict[str, str] = {}
        self._explored: set[str] = set()
        self._find_recursive(self._root, ())

    def normalize(self) -> Node:
        root = {key: v for key, v in self._root.items() if key not in ("$defs", "definitions")}
        normal = self._node(root)
        named = {
            name: self._node(self._target(ref), is_definition=True)
            for ref, name in self._recursive.items()
        }
        return {**normal, "$defs": named} if named else normal

    def _target(self, ref: str) -> Any:
        found: Any = self._root
        if ref.startswith("#"):
            for step in filter(None, ref[1:].split("/")):
                found = found.get(step.replace("~1", "/").replace("~0", "~"), {})
            return found
        return {UNKNOWN: f"the reference {ref}"}

    def _find_recursive(self, node: Any, above: tuple[str, ...]) -> None:
        for ref, below in _references(node):
            if ref in above:
                self._recursive.setdefault(ref, f"R{len(self._recursive) + 1}")
            elif ref is not None and ref not in self._explored:
                self._find_recursive(self._target(ref), (*above, ref))
                self._explored.add(ref)
            if below is not None:
                self._find_recursive(below, above)

    def _node(self, node: Any, *, is_definition: bool = False) -> Any:
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return self._reference(node)
        normal = {k: self._value(k, v) for k, v in node.items() if k not in self._dropped}
        if "const" in normal:
            normal["enum"] = [normal.pop("const")]
        if "enum" in normal:
            normal.pop("type", None)
        if len(normal.get("allOf", ())) == 1:
            (only,) = normal.pop("allOf")
            normal = {**only, **normal}
        if "oneOf" in normal and "discriminator" in normal:
            tag = normal.pop("discriminator").get("propertyName")
            normal["anyOf"] = [_requiring(one, tag) for one in normal.pop("oneOf")]
        return self._object(normal) if normal.get("type") == "object" else normal

    def _object(self, node: Node) -> Node:
        if node.get("properties") == {} and "additionalProperties" not in node:
            node = {**node, "additionalProperties": not self._is_closed}
        if "properties" in node or "patternProperties" in node:
            if self._is_closed:
                node.setdefault("additionalProperties", False)
        else:
            node.setdefault("additionalProperties", True)
        if "required" in node:
            node["required"] = sorted(node["required"])
        if node.get("additionalProperties") in (True, {}):
            node = {**node, "additionalProperties": True}
        return node

    def _reference(self, node: Node) -> Any:
        ref = node["$ref"]
        beside = {key: v for key, v in node.items() if key != "$ref"}
        if ref in self._recursive:
            beside = {key: v for key, v in beside.items() if key not in self._dropped}
            return {"$ref": f"#/$defs/{self._recursive[ref]}", **beside}
        target = self._target(ref)
        if set(beside) <= WORDS | {ALIASES}:
            return self._node({**target, **beside} if isinstance(target, dict) else target)
        return self._node({"allOf": [target, beside]})

    def _value(self, key: str, value: Any) -> Any:
        if key in _OF_SCHEMAS and isinstance(value, dict):
            return {name: self._node(each) for name, each in value.items()}
        if key in _OF_SEVERAL and isinstance(value, list):
            return [self._node(each) for each in value]
        return self._node(value) if key in _OF_ONE else value


def _references(node: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield the references in a node and the nodes inside it."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"], None
        for key, value in node.items():
            if key in _OF_SCHEMAS and isinstance(value, dict) and key != "$defs":
                yield from ((None, each) for each in value.values())
            elif key in _OF_SEVERAL and isinstance(value, list):
                yield from ((None, each) for each in value)
            elif key in _OF_ONE:
                yield None, value


def _requiring(node: Any, name: str | None) -> Any:
    """Require a discriminator property, as pydantic does even if it has a default."""
    if not isinstance(node, dict) or name not in node.get("properties", {}):
        return node
    return {**node, "required": sorted({*node.get("required", ()), name})}


def without_words(node: Any) -> Any:
    """Return a schema without keywords that do not affect validity."""
    if isinstance(node, list):
        return [without_words(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept: Node = {}
    for key, value in node.items():
        if key in _OF_SCHEMAS and isinstance(value, dict):
            kept[key] = {name: without_words(each) for name, each in value.items()}
        elif key not in WORDS:
            kept[key] = value if key == "enum" else without_words(value)
    return kept

"""Descriptions of contracts: an outline for people, and a plain JSON Schema for other tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .contract import Contract
from .generation import ALIASES
from .scalars import NUMBERS, STRINGS

__all__ = ["export_document", "outline", "type_of"]

# Any below: JSON Schemas in normal form.
Node = dict[str, Any]

_LIMITS = sorted((NUMBERS | STRINGS | {"minItems", "maxItems", "uniqueItems"}) - {"format"})
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def outline(contract: Contract) -> list[str]:
    """Return the contract's name, and a line per property: its type, and when it is present."""
    return [contract.key, *(f"  {line}" for line in _outline(contract.written, contract.read, ""))]


def _outline(written: Any, read: Any, path: str) -> Iterator[str]:
    one = written if isinstance(written, dict) else {}
    other = read if isinstance(read, dict) else {}
    properties = {**other.get("properties", {}), **one.get("properties", {})}
    if not properties:
        yield f"{path or 'data'}: {type_of(written)}{_read_as(written, read)}"
        return
    for name, each in properties.items():
        below = f"{path}.{name}" if path else name
        seen = other.get("properties", {}).get(name, each)
        needed = name in other.get("required", ())
        if name not in one.get("properties", {}):
            said = f"{type_of(seen)}, only read"
        else:
            said = f"{type_of(each)}{_read_as(each, seen)}"
        aliases = seen.get(ALIASES, ()) if isinstance(seen, dict) else ()
        also = f", also read as {', '.join(aliases)}" if aliases else ""
        yield f"{below}: {said}{', required' if needed else ', optional'}{also}"
        if isinstance(each, dict) and each.get("properties"):
            yield from _outline(each, seen, below)
    rest = other.get("additionalProperties", True)
    if rest is not True:
        yield f"{path}.*: {'refused' if rest is False else type_of(rest)}".lstrip(".")


def _read_as(written: Any, read: Any) -> str:
    one, other = type_of(written), type_of(read)
    return "" if one == other else f" (read: {other})"


def type_of(node: Any) -> str:
    """Return a short text for a type."""
    if not isinstance(node, dict):
        return "anything" if node else "nothing"
    if "$ref" in node:
        return str(node["$ref"].rpartition("/")[2])
    if "enum" in node:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in node["enum"])
    branches = node.get("anyOf", node.get("oneOf"))
    if branches is not None:
        return " | ".join(dict.fromkeys(type_of(branch) for branch in branches))
    return _of_kind(node)


def _of_kind(node: Node) -> str:
    kind = node.get("type", "anything")
    if kind == "array":
        return _array(node)
    if kind == "object" and not node.get("properties"):
        values = type_of(node.get("additionalProperties", True))
        return "object" if values == "anything" else f"object of {values}"
    limits = [f"{word} {node[word]}" for word in _LIMITS if word in node]
    name = node.get("format", kind)
    return f"{name} ({', '.join(limits)})" if limits else str(name)


def _array(node: Node) -> str:
    heads = [type_of(each) for each in node.get("prefixItems", ())]
    inner = f"[{', '.join(heads)}]" if heads else f"array of {type_of(node.get('items', True))}"
    names = ("minItems", "maxItems") if not heads else ()
    limits = [f"{word} {node[word]}" for word in names if word in node]
    limits += ["no repetition"] if node.get("uniqueItems") else []
    return f"{inner} ({', '.join(limits)})" if limits else inner


def export_document(contract: Contract) -> Node:
    """Return the schema on the wire as JSON Schema 2020-12, without keywords of our own."""
    body = _plain(contract.written)
    return {
        "$schema": _DIALECT,
        "$id": f"urn:kafkaesk:{contract.id}:{contract.version}",
        "title": contract.id,
        **body,
        "examples": list(contract.messages),
    }


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _plain(value) for key, value in node.items() if not key.startswith("x-")}
    if kept.get("format") == "decimal":
        del kept["format"]
        kept = {key: value for key, value in kept.items() if key not in NUMBERS}
        kept["pattern"] = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
    return kept

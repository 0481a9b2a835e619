"""The AsyncAPI 3.0 document of an application: its channels, operations and messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from kafkaesk_core import Application

from .contract import Contract
from .describing import export_document
from .review import contracts_of

__all__ = ["asyncapi_document"]

# Any below: JSON.
Node = dict[str, Any]

_VERSION = "3.0.0"
_KAFKA = "0.5.0"


def asyncapi_document(app: Application, title: str, version: str = "1.0.0") -> Node:
    """Return what an application publishes and takes, for tools that read AsyncAPI."""
    contracts = contracts_of(app)
    described = app.describe()
    schemas = {each["schema"]: each for each in described["schemas"]}
    channels: Node = {}
    for stream in described["streams"]:
        keys = [key for key in stream["schemas"] if key in contracts]
        name = _name(stream["stream"])
        references = {_name(key): {"$ref": f"#/components/messages/{_name(key)}"} for key in keys}
        channels[name] = {
            "address": stream["topic"],
            "messages": references,
            "bindings": {"kafka": _channel_binding([schemas[key] for key in keys])},
        }
    return {
        "asyncapi": _VERSION,
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": dict(_operations(described)),
        "components": {
            "messages": {
                _name(key): _message(each, schemas[key]) for key, each in contracts.items()
            },
            "schemas": {
                name: node for each in contracts.values() for name, node in _definitions(each)
            },
        },
    }


def _name(text: str) -> str:
    """A name as AsyncAPI allows it for channels, messages and operations."""
    return re.sub(r"[^a-zA-Z0-9._-]", "_", text)


def _channel_binding(schemas: list[Any]) -> Node:
    binding: Node = {"bindingVersion": _KAFKA}
    for field, word in (("partitions", "partitions"), ("replication_factor", "replicas")):
        values = [each[field] for each in schemas if each[field] is not None]
        if values:
            binding[word] = values[0]
    retentions = [each["retention"] for each in schemas if each["retention"] is not None]
    if retentions:
        binding["topicConfiguration"] = {"retention.ms": max(retentions) * 1000}
    return binding


def _operations(described: Any) -> Iterator[tuple[str, Node]]:
    """What is sent to each stream that has a schema, and what each handler receives."""
    for stream in described["streams"]:
        sent = stream["published"] or stream["schemas"]
        if sent:
            name = _name(stream["stream"])
            yield f"send.{name}", {"action": "send", **_on_channel(stream["stream"], sent)}
    known = {stream["stream"]: stream for stream in described["streams"]}
    for handler in described["handlers"]:
        for name, stream in known.items():
            if handler["group"] in stream["groups"] and _takes(handler, name):
                operation = _on_channel(name, stream["schemas"])
                group = {"type": "string", "enum": [handler["group"]]}
                yield (
                    _name(f"receive.{name}.{handler['group']}"),
                    {
                        "action": "receive",
                        "title": handler["handler"],
                        **({"summary": handler["summary"]} if handler["summary"] else {}),
                        **operation,
                        "bindings": {"kafka": {"groupId": group, "bindingVersion": _KAFKA}},
                    },
                )


def _takes(handler: Any, stream: str) -> bool:
    if handler["is_pattern"]:
        return any(fnmatchcase(stream, pattern) for pattern in handler["streams"])
    return stream in handler["streams"]


def _on_channel(stream: str, keys: list[str]) -> Node:
    channel = f"#/channels/{_name(stream)}"
    messages = [{"$ref": f"{channel}/messages/{_name(key)}"} for key in keys]
    return {"channel": {"$ref": channel}, "messages": messages}


def _message(contract: Contract, schema: Any) -> Node:
    """A message, with its envelope as the payload, as it is on the wire."""
    document = export_document(contract)
    words = ("$schema", "$id", "$defs", "examples")
    data = _older({key: v for key, v in document.items() if key not in words}, contract.key)
    examples = document["examples"][:1]
    if schema["envelope"]:
        names = {"type": "string", "const": contract.key}
        properties = {"schema": names, "data": data}
        data = {"type": "object", "properties": properties, "required": ["schema", "data"]}
        examples = [{"schema": contract.key, "data": each} for each in examples]
    return {
        "name": contract.key,
        "title": contract.key,
        **({"summary": schema["summary"]} if schema["summary"] else {}),
        "contentType": "application/json",
        "payload": data,
        "examples": [{"payload": each} for each in examples],
    }


def _definitions(contract: Contract) -> Iterator[tuple[str, Node]]:
    """What a schema refers to, under names of the whole document."""
    for name, node in export_document(contract).get("$defs", {}).items():
        yield f"{_name(contract.key)}.{name}", _older(node, contract.key)


def _older(node: Any, key: str) -> Any:
    """A schema in the dialect of AsyncAPI, which is that of draft 7."""
    if isinstance(node, list):
        return [_older(each, key) for each in node]
    if not isinstance(node, dict):
        return node
    found = {word: _older(value, key) for word, value in node.items()}
    if isinstance(found.get("$ref"), str):
        name = found["$ref"].rpartition("/")[2]
        return {"$ref": f"#/components/schemas/{_name(key)}.{name}"}
    if isinstance(found.get("prefixItems"), list):
        rest = found.pop("items", True)
        found |= {"items": found.pop("prefixItems"), "additionalItems": rest}
    return found

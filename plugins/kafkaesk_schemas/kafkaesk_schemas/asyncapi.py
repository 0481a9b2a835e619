"""The AsyncAPI document of an application: its channels, operations and messages."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any

from kafkaesk_core import Application

from .contract import Contract
from .describing import export_document
from .forms import Form, Forms, name_of
from .review import contracts_of

__all__ = ["VERSIONS", "asyncapi_document"]

# Any below: JSON.
Node = dict[str, Any]

VERSIONS = {"3.0": "3.0.0", "3.1": "3.1.0"}
_KAFKA = "0.5.0"


def asyncapi_document(
    app: Application, title: str, version: str = "1.0.0", asyncapi: str = "3.0"
) -> Node:
    """Return the AsyncAPI document of an application's published and consumed messages."""
    contracts = contracts_of(app)
    described = app.describe()
    schemas = {each["schema"]: each for each in described["schemas"]}
    streams = _own(described["streams"], app.plugins.claimed_streams)
    forms = Forms(app, streams)
    channels: Node = {}
    for stream in streams:
        keys = [key for key in stream["schemas"] if key in contracts]
        name = name_of(stream["stream"])
        names = forms.names_on(stream["stream"], keys)
        channels[name] = {
            "address": stream["topic"],
            "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in names},
            "bindings": {"kafka": _channel_binding([schemas[key] for key in keys])},
        }
    return {
        "asyncapi": VERSIONS[asyncapi],
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": dict(_operations(streams, described["handlers"], forms)),
        "components": {
            "messages": {
                name: _message(contracts[key], schemas[key], form)
                for name, (key, form) in sorted(forms.messages.items())
            },
            "schemas": {
                name: node for each in contracts.values() for name, node in _definitions(each)
            },
        },
    }


def _own(streams: Any, claimed: Collection[str]) -> list[Any]:
    """Return the streams that do not belong to plugins."""
    return [
        each
        for each in streams
        if not any(fnmatchcase(each["stream"], pattern) for pattern in claimed)
    ]


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


def _operations(streams: Any, handlers: Any, forms: Forms) -> Iterator[tuple[str, Node]]:
    """Return the send operations of streams with a schema, and each handler's receive."""
    for stream in streams:
        sent = stream["published"] or stream["schemas"]
        if sent:
            name = name_of(stream["stream"])
            yield f"send.{name}", {"action": "send", **_on_channel(stream["stream"], sent, forms)}
    known = {stream["stream"]: stream for stream in streams}
    for handler in handlers:
        for name, stream in known.items():
            if handler["group"] in stream["groups"] and _takes(handler, name):
                operation = _on_channel(name, stream["schemas"], forms)
                group = {"type": "string", "enum": [handler["group"]]}
                yield (
                    name_of(f"receive.{name}.{handler['group']}"),
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


def _on_channel(stream: str, keys: list[str], forms: Forms) -> Node:
    channel = f"#/channels/{name_of(stream)}"
    messages = [{"$ref": f"{channel}/messages/{each}"} for each in forms.names_on(stream, keys)]
    return {"channel": {"$ref": channel}, "messages": messages}


def _message(contract: Contract, schema: Any, form: Form | None) -> Node:
    """Return a message as it is on the wire: in its envelope, plain, or in a codec's format."""
    document = export_document(contract)
    words = ("$schema", "$id", "$defs", "examples")
    data = _older({key: v for key, v in document.items() if key not in words}, contract.key)
    examples = document["examples"][:1]
    if form is None and schema["envelope"]:
        names = {"type": "string", "const": contract.key}
        properties = {"schema": names, "data": data}
        data = {"type": "object", "properties": properties, "required": ["schema", "data"]}
        examples = [{"schema": contract.key, "data": each} for each in examples]
    message = {
        "name": contract.key,
        "title": contract.key if form is None else f"{contract.key}, {form.name}",
        **({"summary": schema["summary"]} if schema["summary"] else {}),
        "contentType": "application/json",
        "payload": data,
        "examples": [{"payload": each} for each in examples],
    }
    return message if form is None else _in_form(message, form)


def _in_form(message: Node, form: Form) -> Node:
    if form.said:
        return {**message, **form.said}
    said = f"{form.name} writes this message, and does not say how; the data is that of its schema."
    unknown = {"contentType": "application/octet-stream", "payload": True, "examples": []}
    return {**message, **unknown, "description": said}


def _definitions(contract: Contract) -> Iterator[tuple[str, Node]]:
    """Return the definitions that a schema refers to, with names for the whole document."""
    for name, node in export_document(contract).get("$defs", {}).items():
        yield f"{name_of(contract.key)}.{name}", _older(node, contract.key)


def _older(node: Any, key: str) -> Any:
    """Return a schema in AsyncAPI's dialect, which is draft 7."""
    if isinstance(node, list):
        return [_older(each, key) for each in node]
    if not isinstance(node, dict):
        return node
    found = {word: _older(value, key) for word, value in node.items()}
    if isinstance(found.get("$ref"), str):
        name = found["$ref"].rpartition("/")[2]
        return {"$ref": f"#/components/schemas/{name_of(key)}.{name}"}
    if isinstance(found.get("prefixItems"), list):
        rest = found.pop("items", True)
        found |= {"items": found.pop("prefixItems"), "additionalItems": rest}
    return found

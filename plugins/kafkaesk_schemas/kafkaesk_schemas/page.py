"""The page of an AsyncAPI document: one file without external resources or required scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from typing import Any

from .scalars import NUMBERS, STRINGS

__all__ = ["render_page"]

# Any below: JSON.
Node = dict[str, Any]

_LIMITS = sorted((NUMBERS | STRINGS | {"minItems", "maxItems", "uniqueItems"}) - {"format"})
_DEEPEST = 8
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render_page(document: Node) -> str:
    """Return the document as an HTML page, to open as a file or to serve."""
    title = escape(document["info"]["title"])
    parts = files(__package__).joinpath("assets")
    style, script = (parts.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{title}</title><style>{style}</style></head><body>",
            *_header(document),
            '<div class="columns">',
            *_contents(document),
            "<main>",
            *_streams(document),
            *_messages(document),
            *_schemas(document),
            "</main></div>",
            f"<script>{script}</script></body></html>\n",
        )
    )


def _header(document: Node) -> Iterator[str]:
    info, counts = document["info"], _counts(document)
    yield f"<header><h1>{escape(info['title'])}</h1>"
    yield f"<p>Version {escape(info['version'])}: {counts}. AsyncAPI {document['asyncapi']}.</p>"
    if info.get("description"):
        yield f"<p>{escape(info['description'])}</p>"
    yield '<input id="search" type="search" placeholder="Search" aria-label="Search" hidden>'
    yield '<p id="nothing" role="status" hidden>Nothing on this page has these words.</p></header>'


def _counts(document: Node) -> str:
    streams, messages = len(document["channels"]), len(document["components"]["messages"])
    texts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((streams, "stream"), (messages, "message"))
    ]
    return " and ".join(texts)


def _contents(document: Node) -> Iterator[str]:
    """Return the page's table of contents."""
    yield '<nav aria-label="Contents"><details open><summary>Contents</summary>'
    for heading, prefix, names in (
        (
            "Streams",
            "stream",
            {name: each["address"] for name, each in document["channels"].items()},
        ),
        ("Messages", "message", _titles(document)),
        ("Types", "type", {name: name for name in document["components"]["schemas"]}),
    ):
        if names:
            yield f"<h2>{heading}</h2><ul>"
            for name, text in names.items():
                link = f'<a href="#{prefix}-{name}">{escape(text)}</a>'
                yield f'<li data-words="{_words(text)}">{link}</li>'
            yield "</ul>"
    yield "</details></nav>"


def _titles(document: Node) -> dict[str, str]:
    return {name: each["title"] for name, each in document["components"]["messages"].items()}


# --- streams


def _streams(document: Node) -> Iterator[str]:
    yield "<section><h2>Streams</h2>"
    if not document["channels"]:
        yield "<p>The application names no stream.</p>"
    for name, channel in document["channels"].items():
        operations = [
            each
            for each in document["operations"].values()
            if each["channel"]["$ref"] == f"#/channels/{name}"
        ]
        words = [channel["address"], *channel["messages"], *(_group(each) for each in operations)]
        yield f'<article id="stream-{name}" data-words="{_words(*words)}">'
        yield f"<h3>{escape(channel['address'])}</h3>"
        yield from _facts(channel["bindings"]["kafka"])
        yield from (_operation(each, document) for each in operations)
        yield "</article>"
    yield "</section>"


def _facts(binding: Node) -> Iterator[str]:
    """Return the known facts about the topic."""
    facts = [(word, str(binding[word])) for word in ("partitions", "replicas") if word in binding]
    for word, value in binding.get("topicConfiguration", {}).items():
        facts.append(
            (word, f"{_duration(value)} ({value})" if word == "retention.ms" else str(value))
        )
    if facts:
        rows = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in facts)
        yield f"<dl>{rows}</dl>"


def _duration(milliseconds: int) -> str:
    for unit, size in (
        ("day", 86_400_000),
        ("hour", 3_600_000),
        ("minute", 60_000),
        ("second", 1000),
    ):
        if milliseconds >= size and milliseconds % size == 0:
            count = milliseconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{milliseconds} ms"


def _operation(operation: Node, document: Node) -> str:
    links = [_link_to_message(each["$ref"], document) for each in operation["messages"]]
    taken = ", ".join(links) or "anything"
    if operation["action"] == "send":
        return f'<p class="send"><span>sent</span> {taken}</p>'
    by = f"by group <b>{escape(_group(operation))}</b>"
    said = f"<br>{escape(operation['summary'])}" if "summary" in operation else ""
    handler = f"<code>{escape(operation['title'])}</code>"
    return f'<p class="receive"><span>received</span> {taken} {by}, {handler}{said}</p>'


def _group(operation: Node) -> str:
    named = operation.get("bindings", {}).get("kafka", {}).get("groupId", {}).get("enum", [""])
    return str(named[0])


def _link_to_message(reference: str, document: Node) -> str:
    name = reference.rpartition("/")[2]
    title = document["components"]["messages"][name]["title"]
    return f'<a href="#message-{name}">{escape(title)}</a>'


# --- messages and types


def _messages(document: Node) -> Iterator[str]:
    if document["components"]["messages"]:
        yield "<section><h2>Messages</h2>"
        for name, message in document["components"]["messages"].items():
            rows = list(_rows(message["payload"], "", required=True, depth=0))
            words = [message["title"], message.get("summary", ""), *(row[0] for row in rows)]
            yield f'<article id="message-{name}" data-words="{_words(*words)}">'
            yield f"<h3>{escape(message['title'])}</h3>"
            yield from (
                f"<p>{escape(message[each])}</p>"
                for each in ("summary", "description")
                if each in message
            )
            if "headers" in message:
                yield "<h4>Headers</h4>"
                yield from _table(_rows(message["headers"], "", required=True, depth=0))
                yield "<h4>Value</h4>"
            yield from _table(rows)
            for example in message["examples"]:
                yield from _json("Example", example["payload"])
            yield from _json("JSON Schema", message["payload"])
            yield "</article>"
        yield "</section>"


def _schemas(document: Node) -> Iterator[str]:
    if document["components"]["schemas"]:
        yield "<section><h2>Types</h2>"
        for name, node in document["components"]["schemas"].items():
            rows = list(_rows(node, "", required=True, depth=0))
            words = _words(name, *(row[0] for row in rows))
            yield f'<article id="type-{name}" data-words="{words}">'
            yield f"<h3>{escape(name)}</h3>"
            yield from _table(rows)
            yield "</article>"
        yield "</section>"


Row = tuple[str, str, str, str]
"""A path, its type as HTML, when it is present, and its description."""


def _rows(node: Any, path: str, *, required: bool, depth: int) -> Iterator[Row]:
    properties = node.get("properties", {}) if isinstance(node, dict) else {}
    if path or not properties:
        said = node.get("description", "") if isinstance(node, dict) else ""
        yield path, type_of(node), "always" if required else "may be absent", said
    if depth < _DEEPEST:
        for below, each, is_needed in _inner(node, path):
            yield from _rows(each, below, required=is_needed, depth=depth + 1)


def _inner(node: Any, path: str) -> Iterator[tuple[str, Any, bool]]:
    """Return the properties of a schema, of an array's items, and of each alternative."""
    if not isinstance(node, dict):
        return
    for name, each in node.get("properties", {}).items():
        yield f"{path}.{name}" if path else name, each, name in node.get("required", ())
    items, values = node.get("items"), node.get("additionalProperties")
    inner = {f"{path}[]": items, f"{path}.*": values}
    branches = node.get("anyOf") or node.get("oneOf") or ()
    inner |= {f"{path}({number})": each for number, each in enumerate(branches, 1)}
    for below, each in inner.items():
        yield from _inner(each, below)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    heads = "".join(f"<th>{word}</th>" for word in ("Property", "Type", "Presence", "Meaning"))
    yield f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>'
    for path, kind, presence, said in rows:
        shown = f"<code>{escape(path)}</code>" if path else "the whole"
        yield f"<tr><td>{shown}</td><td>{kind}</td><td>{presence}</td><td>{escape(said)}</td></tr>"
    yield "</tbody></table></div>"


def type_of(node: Any) -> str:
    """Return a type as HTML, with links to named types."""
    if not isinstance(node, dict):
        return "nothing" if node is False else "anything"
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return f'<a href="#type-{name}">{escape(name)}</a>'
    if "const" in node or "enum" in node:
        values = node.get("enum", [node.get("const")])
        return " | ".join(
            f"<code>{escape(json.dumps(each, ensure_ascii=False))}</code>" for each in values
        )
    branches = node.get("anyOf", node.get("oneOf"))
    if branches is not None:
        return " | ".join(dict.fromkeys(type_of(each) for each in branches))
    return _of_kind(node)


def _of_kind(node: Node) -> str:
    kind = node.get("type", "anything")
    name = " | ".join(kind) if isinstance(kind, list) else node.get("format", kind)
    text = escape(str(name))
    items, values = node.get("items", True), node.get("additionalProperties", True)
    if kind == "array":
        inner = ", ".join(map(type_of, items)) if isinstance(items, list) else type_of(items)
        text = f"[{inner}]" if isinstance(items, list) else f"array of {inner}"
    elif kind == "object" and not node.get("properties") and isinstance(values, dict):
        text = f"object of {type_of(values)}"
    limits = [escape(f"{word} {json.dumps(node[word])}") for word in _LIMITS if word in node]
    return f"{text} ({', '.join(limits)})" if limits else text


def _json(heading: str, value: Any) -> Iterator[str]:
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    state = " open" if heading == "Example" else ""
    yield f"<details{state}><summary>{heading}</summary><pre><code>{text}</code></pre></details>"


def _words(*texts: str) -> str:
    """Return the text that the search examines."""
    return escape(" ".join(texts).lower())

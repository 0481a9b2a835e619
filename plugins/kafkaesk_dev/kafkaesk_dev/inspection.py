"""Implements `kafkaesk inspect`: shows an application, or a record and what handlers would get."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints

import click
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kafkaesk_core import (
    Application,
    Cluster,
    ConfigurationError,
    ConsumerRecord,
    Description,
    Subscription,
    TopicError,
    TopicPartition,
)
from kafkaesk_core.command import cluster_settings, find_described

from .reading.contents import Content, ContentReader
from .reading.shown import as_json, safe, shown_age, shown_bytes, shown_time, shown_value
from .reading.topics import find_topic
from .replica import replica_of

__all__ = ["show_application", "show_record"]

# Any below: JSON, annotations and options of any type.

_PLACE = re.compile(r"(?P<topic>[^\[/]+)(?:\[(\d+)\]@(\d+)|/(\d+)/(\d+))")
_HOOKS = ("codec", "upcasters", "wrap_consume", "wrap_consume_batch")


class Verdict(NamedTuple):
    """The argument that a handler would get for a record, or why the handler would fail."""

    handler: str
    group: str
    takes: str
    problem: str
    data: str


# --- an application


def show_application(name: str, *, is_json: bool) -> None:
    """Show the streams, handlers, schemas and plugins of an application.

    Raises:
        ConfigurationError: the application was not found, or a handler or schema is invalid.
    """
    described = find_described(name).describe()
    if is_json:
        click.echo(json.dumps(described, indent=2))
    else:
        Console(highlight=False).print(Group(*_tables(described)))


def _tables(described: Description) -> Iterator[RenderableType]:
    streams = _table("STREAM", "CARRIES", "PUBLISHED", "GROUPS")
    for stream in described["streams"]:
        _row(
            streams,
            stream["topic"],
            ", ".join(stream["schemas"]),
            "yes" if stream["published"] else "",
            ", ".join(stream["groups"]),
        )
    handlers = _table("HANDLER", "GROUP", "STREAMS", "TAKES", "ORDER", "ON ERROR")
    for handler in described["handlers"]:
        takes = ", ".join(handler["schemas"]) or handler["takes"]
        _row(
            handlers,
            handler["handler"],
            handler["group"],
            ", ".join(handler["streams"]),
            f"list of {takes}" if handler["is_batch"] else takes,
            handler["ordering"],
            handler["on_error"],
        )
    schemas = _table("SCHEMA", "DECLARED IN", "STREAMS", "")
    for schema in described["schemas"]:
        _row(
            schemas,
            schema["schema"],
            schema["declared_in"],
            ", ".join(schema["streams"]),
            schema["summary"],
        )
    plugins = _table("PLUGIN", "VERSION", "STATUS", "")
    for plugin in described["plugins"]:
        _row(plugins, plugin["name"], plugin["version"], plugin["status"], plugin["reason"])
    for table in (streams, handlers, schemas, plugins):
        if table.row_count:
            yield from (table, "")


def _table(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(escape(safe(cell)) or "-" for cell in cells))


# --- one record


def show_record(
    name: str,
    place: str,
    *,
    is_json: bool,
    **options: Any,  # of `cluster_options`
) -> None:
    """Show a record with its headers and value, and the argument that each handler would get.

    Raises:
        ConfigurationError: the record's place is invalid, or the application was not found.
        BrokerError: no broker can be reached, or the record does not exist.
    """
    topic, partition, offset = _parse(place)
    application = find_described(name)
    settings = cluster_settings(application, options)
    prefix = settings.topic_prefix
    if not topic.startswith(prefix):
        raise ConfigurationError(
            f"topic {topic} is not of this application, whose topics begin with {prefix!r}"
        )
    stream = topic.removeprefix(prefix)

    async def read() -> tuple[ConsumerRecord, list[Verdict]]:
        async with Cluster(settings) as cluster:
            record = await _record(cluster, TopicPartition(topic, partition), offset)
        return record, await _verdicts(application, stream, record, options)

    record, verdicts = asyncio.run(read())
    content = ContentReader(application, stream).read(record)
    if is_json:
        described = {**as_json(record, content), "handlers": [each._asdict() for each in verdicts]}
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
    else:
        Console(highlight=False).print(Group(*_parts(record, content, verdicts)))


def _parse(place: str) -> tuple[str, int, int]:
    found = _PLACE.fullmatch(place)
    if not found:
        raise ConfigurationError(
            f"{place!r} is not the place of a record; write topic[partition]@offset as the log "
            "has it, or topic/partition/offset"
        )
    topic, *numbers = found.groups()
    partition, offset = (int(each) for each in numbers if each is not None)
    return topic, partition, offset


async def _record(cluster: Cluster, partition: TopicPartition, offset: int) -> ConsumerRecord:
    topic, place = partition.topic, f"{partition.topic}[{partition.partition}]"
    count = await find_topic(cluster, topic, click.echo, waits=False)
    if partition.partition >= count:
        raise TopicError(
            f"{place} does not exist: the topic has {count} partitions, from 0", topic=topic
        )
    begin = (await cluster.begins([topic])).get(partition)
    end = (await cluster.ends([topic])).get(partition)
    if begin is None or end is None:
        raise TopicError(f"{place} has no leader, so it cannot be read", topic=topic)
    if not begin <= offset < end:
        has = f"has offsets {begin} to {end - 1}" if begin < end else "is empty"
        why = "; older records were deleted" if offset < begin else ""
        raise TopicError(f"{place}@{offset} does not exist: the partition {has}{why}", topic=topic)
    async with cluster.reader() as reader:
        async for records in reader.records({partition: offset + 1}, {partition: offset}):
            for record in records:
                return record
    raise TopicError(
        f"{place}@{offset} holds no record: it was compacted, or is a marker of a transaction",
        topic=topic,
    )


async def _verdicts(
    app: Application, stream: str, record: ConsumerRecord, options: Mapping[str, Any]
) -> list[Verdict]:
    found = []
    for subscription in app.subscriptions:
        if subscription.matches(stream, app.plugins.claimed_streams):
            found.append(await _verdict(app, subscription, stream, record, options))
    return found


async def _verdict(
    app: Application,
    subscription: Subscription,
    stream: str,
    record: ConsumerRecord,
    options: Mapping[str, Any],
) -> Verdict:
    """Let a handler of the same type take the record, in an application that starts nothing."""
    annotation = _annotation(subscription)
    taken: list[Any] = []

    async def take(data: Any) -> None:
        taken.append(data)

    if annotation is not inspect.Parameter.empty:
        take.__annotations__["data"] = annotation
    else:
        del take.__annotations__["data"]
    replica = replica_of(app, (), options, _HOOKS)
    decode = replica.subscribe_to_topics(
        [stream],
        subscription.group,
        envelope=subscription.envelope,
        skip_plugins=[name for name in subscription.skip_plugins if replica.plugins.get(name)],
    )
    decode(take)
    result = await replica.handle(
        stream,
        record.value,
        record.key,
        record.headers,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
    )
    problem = "" if result.kind == "done" else f"{type(result.error).__name__}: {result.error}"
    return Verdict(
        subscription.handler_name,
        subscription.group,
        _name(annotation),
        problem,
        repr(taken[0]) if taken else "",
    )


def _annotation(subscription: Subscription) -> Any:
    """Return the type of the first parameter, which decides what the handler gets."""
    function = subscription.func
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    parameters = inspect.signature(subscription.func).parameters
    first = next(iter(parameters.values()))
    return get_type_hints(inspect.unwrap(function)).get(first.name, first.empty)


def _name(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "the envelope"
    is_class = inspect.isclass(annotation) and not hasattr(annotation, "__args__")
    return annotation.__name__ if is_class else str(annotation)


def _parts(
    record: ConsumerRecord, content: Content, verdicts: list[Verdict]
) -> Iterator[RenderableType]:
    facts = {
        "record": f"{record.topic}[{record.partition}]@{record.offset}",
        "written": f"{shown_time(record.timestamp)}, {shown_age(record.timestamp, time.time())}",
        "key": "(none)" if record.key is None else shown_bytes(record.key),
        "schema": content.schema or "(none: the value is not an envelope)",
        "size": f"{len(record.value or b''):,} bytes",
    }
    if content.problem:
        facts["problem"] = content.problem
    yield _facts(facts)
    if record.headers:
        headers = _facts({})
        for name, value in record.headers:
            shown = "null" if value is None else shown_bytes(value)
            headers.add_row(f"  [dim]{escape(safe(name))}[/dim]", escape(shown))
        yield from ("", "[bold]headers[/bold]", headers)
    yield from ("", "[bold]value[/bold]")
    if content.kind == "json":
        yield escape(safe_lines(json.dumps(content.data, indent=2, ensure_ascii=False)))
    else:
        yield escape(shown_value(content, record.value))
    yield from ("", "[bold]handlers[/bold]", *_shown_verdicts(verdicts))


def safe_lines(text: str) -> str:
    """Like `safe`, but keep the lines of the text."""
    return "\n".join(map(safe, text.split("\n")))


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/bold]", escape(safe(value)))
    return table


def _shown_verdicts(verdicts: list[Verdict]) -> Iterator[RenderableType]:
    if not verdicts:
        yield "no handler of this application takes the stream"
    for each in verdicts:
        head = f"{each.handler} (group {each.group}) takes {each.takes}"
        yield escape(safe(head))
        if each.problem:
            yield f"  [red]would fail:[/red] {escape(safe_lines(each.problem))}"
        else:
            yield f"  [green]would get:[/green] {escape(safe(each.data))}"

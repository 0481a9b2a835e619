"""Implements `kafkaesk tail`: shows the records of a stream, and follows new ones."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TextIO

import click

from kafkaesk_core import Cluster, ConfigurationError, ConsumerRecord, TopicPartition
from kafkaesk_core.command import cluster_settings, find_described

from .reading.contents import Content, ContentReader
from .reading.filters import Filter
from .reading.positions import Position, resolve
from .reading.shown import as_json, as_text
from .reading.topics import find_topic

__all__ = ["Reading", "show_records"]

Offsets = Mapping[TopicPartition, int]
INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The range and the records to read; `limit` is the maximum number of records."""

    stream: str
    begin: Position
    end: Position | None
    partitions: tuple[int, ...]
    filter: Filter
    limit: int | None
    follows: bool


def show_records(
    reading: Reading,
    *,
    app: str | None,
    is_json: bool,
    is_count: bool,
    **options: Any,  # of `cluster_options`
) -> None:
    """Show the selected records, or count them.

    Raises:
        ConfigurationError: the partition does not exist.
        BrokerError: no broker can be reached, or the topic does not exist.
    """
    application = find_described(app) if app else None
    settings = cluster_settings(application, options)
    output = sys.stdout
    if isinstance(output, io.TextIOWrapper):
        output.reconfigure(errors="backslashreplace")  # for a terminal without Unicode
    printer = _Printer(output, is_json=is_json, is_count=is_count)
    contents = ContentReader(application, reading.stream)

    async def read() -> None:
        task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _cancel, task)
        topic = settings.topic_prefix + reading.stream
        async with Cluster(settings) as cluster:
            await _show(cluster, topic, reading, contents, printer)

    try:
        asyncio.run(read())
    except asyncio.CancelledError:
        printer.finish()
        sys.exit(0 if reading.follows else INTERRUPTED)
    printer.finish()


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()


async def _show(
    cluster: Cluster, topic: str, reading: Reading, contents: ContentReader, printer: _Printer
) -> None:
    shown = 0
    async with aclosing(_records(cluster, topic, reading)) as batches:
        async for batch in batches:
            for record in batch:
                content = contents.read(record)
                if not reading.filter.takes(record, content):
                    continue
                printer.show(record, content)
                shown += 1
                if shown == reading.limit:
                    return
            printer.flush()


async def _records(
    cluster: Cluster, topic: str, reading: Reading
) -> AsyncGenerator[list[ConsumerRecord]]:
    """Yield the records between the two positions, and then new records."""
    starts, stops = await _limits(cluster, topic, reading)
    async with cluster.reader() as reader:
        async with aclosing(reader.records(stops, starts)) as history:
            if reading.begin.kind == "last":
                last = deque[ConsumerRecord](maxlen=reading.begin.number)
                async for records in history:
                    last.extend(records)
                yield list(last)
            else:
                async for records in history:
                    yield records
        if reading.follows:
            grows = not reading.partitions
            async with aclosing(reader.follow(stops, grows=grows, report=_tell)) as coming:
                async for records in coming:
                    yield records


async def _limits(cluster: Cluster, topic: str, reading: Reading) -> tuple[Offsets, Offsets]:
    """Return the first offset to read of each partition, and the offset to stop before.

    Raises:
        ConfigurationError: the partition does not exist.
        TopicError: the topic does not exist.
    """
    count = await find_topic(cluster, topic, _tell, waits=reading.follows)
    numbers = sorted(set(reading.partitions)) or range(count)
    if numbers[-1] >= count:
        raise ConfigurationError(
            f"topic {topic} has no partition {numbers[-1]}: it has {count}, from 0"
        )
    begins, ends = await cluster.begins([topic]), await cluster.ends([topic])
    wanted = [TopicPartition(topic, number) for number in numbers]
    for partition in wanted:
        if partition not in begins or partition not in ends:
            _tell(f"{topic}[{partition.partition}] has no leader, and is left out")
    begins = {one: begins[one] for one in wanted if one in begins and one in ends}
    ends = {one: ends[one] for one in begins}
    # The broker of librdkafka finds no offsets by time: all is read, and the filter chooses.
    finds_times = not cluster.settings.kafka_servers[0].startswith("embedded://")
    starts, stops = begins, ends
    if finds_times or reading.begin.kind != "time":
        starts = await resolve(reading.begin, cluster, topic, begins, ends)
    # A time to end at is left to the filter: behind the first record of that time, or the marker
    # of a transaction, which has the time of its commit, there may be earlier ones.
    if reading.end is not None and reading.end.kind != "time":
        stops = await resolve(reading.end, cluster, topic, begins, ends)
    return starts, stops


class _Printer:
    """Prints records as text or JSON lines, or prints only their number."""

    def __init__(self, output: TextIO, *, is_json: bool, is_count: bool) -> None:
        self._output = output
        self._is_json = is_json
        self._is_count = is_count
        self._is_terminal = output.isatty()
        self._is_coloured = self._is_terminal and not os.environ.get("NO_COLOR")
        self._count = 0

    def show(self, record: ConsumerRecord, content: Content) -> None:
        """Print one record."""
        self._count += 1
        if self._is_count:
            return
        if self._is_json:
            text = json.dumps(as_json(record, content), ensure_ascii=False)
        else:
            columns = shutil.get_terminal_size().columns if self._is_terminal else None
            text = as_text(
                record, content, time.time(), is_coloured=self._is_coloured, columns=columns
            )
        self._output.write(f"{text}\n")

    def flush(self) -> None:
        """Flush the printed output."""
        self._output.flush()

    def finish(self) -> None:
        """Print the number, if only the number is wanted."""
        if self._is_count:
            self._output.write(f"{self._count}\n")
        self._output.flush()


def _tell(text: str) -> None:
    click.echo(f"kafkaesk: {text}", err=True)

"""The command `kafkaesk logs`: the lines of a stream, as text."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import click
from aiokafka import AIOKafkaConsumer

from kafkaesk_core import Application, KafkaeskError
from kafkaesk_core.bootstrap import opened
from kafkaesk_core.kafka.errors import explain

from .text import LineText, level_of

__all__ = ["logs"]

_POLL_MS = 200


@click.command()
@click.argument("stream")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is logged from now on.")
@click.option("--level", default="NOTSET", help="Show lines of this level and above: WARNING.")
@click.option("--grep", "pattern", help="Show lines in which this regular expression is found.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--kafka-servers", envvar="KAFKAESK_KAFKA_SERVERS", show_envvar=True)
@click.option("--kafka-settings", envvar="KAFKAESK_KAFKA_SETTINGS", show_envvar=True)
@click.option("--topic-prefix", envvar="KAFKAESK_TOPIC_PREFIX", show_envvar=True)
def logs(
    stream: str,
    *,
    follow: bool,
    level: str,
    pattern: str | None,
    as_json: bool,
    kafka_servers: str | None,
    kafka_settings: str | None,
    topic_prefix: str | None,
) -> None:
    """Print the log lines of STREAM, from the oldest one on."""
    shows = _filter(level, pattern)
    show: Callable[[dict[str, Any]], str] = json.dumps if as_json else LineText(_has_colours()).of
    app = Application()
    try:
        settings = json.loads(kafka_settings) if kafka_settings else None
        app.override(
            kafka_servers=kafka_servers, kafka_settings=settings, topic_prefix=topic_prefix
        )
        asyncio.run(_print(app, stream, shows, show, is_following=follow))
    except KafkaeskError as error:
        click.echo(f"kafkaesk: {error}", err=True)
        sys.exit(error.exit_code)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


async def _print(
    app: Application,
    stream: str,
    shows: Callable[[dict[str, Any]], bool],
    show: Callable[[dict[str, Any]], str],
    *,
    is_following: bool,
) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async for fields in _fields(app, stream, is_following=is_following):
            if shows(fields):
                click.echo(show(fields))
    except asyncio.CancelledError:
        return


# Any below: a line's fields are of any type.
async def _fields(
    app: Application, stream: str, *, is_following: bool
) -> AsyncIterator[dict[str, Any]]:
    """Read a stream without a group: nobody else's offsets are touched."""
    settings = app.settings
    settings.check()
    topic = f"{settings.topic_prefix}{stream}"
    async with opened(settings) as bootstrap:
        options = settings.over(bootstrap.kafka_settings).client.for_consumer()
        options |= {"group_id": None, "auto_offset_reset": "earliest"}
        options |= {"enable_auto_commit": False, "metadata_max_age_ms": 5000}
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=list(bootstrap.servers), **options)
        try:
            await consumer.start()
        except Exception as error:
            await consumer.stop()
            raise click.ClickException(f"stream {stream}: {explain(error)}") from error
        try:
            async for fields in _read(consumer, topic, is_following=is_following):
                yield fields
        finally:
            await consumer.stop()


async def _read(
    consumer: AIOKafkaConsumer, topic: str, *, is_following: bool
) -> AsyncIterator[dict[str, Any]]:
    while is_following and not consumer.assignment():
        await consumer.getmany(timeout_ms=_POLL_MS)  # the topic is not there yet
    if not consumer.assignment():
        raise click.ClickException(f"topic {topic} does not exist, or may not be read")
    ends = await consumer.end_offsets(consumer.assignment())
    waiting: list[tuple[int, dict[str, Any]]] = []
    while True:
        found = await consumer.getmany(timeout_ms=_POLL_MS)
        for records in found.values():
            waiting += [(record.timestamp, fields_of(record.value)) for record in records]
        positions = {partition: await consumer.position(partition) for partition in ends}
        is_at_end = all(position >= ends[partition] for partition, position in positions.items())
        if is_at_end:  # lines of several partitions, in the order of their time
            for _, fields in sorted(waiting, key=lambda entry: entry[0]):
                yield fields
            waiting.clear()
            if not is_following:
                return


def fields_of(value: bytes | None) -> dict[str, Any]:
    """Return a line's fields; of what is no line, the text as its message."""
    try:
        fields: dict[str, Any] = json.loads(value or b"")["data"]
        return dict(fields)
    except (ValueError, TypeError, KeyError):
        return {"message": (value or b"").decode(errors="replace")}


def _filter(level: str, pattern: str | None) -> Callable[[dict[str, Any]], bool]:
    lowest = level_of(level)
    if lowest is None:
        raise click.BadParameter(f"{level!r} is no level, as DEBUG and WARNING are")
    try:
        expression = re.compile(pattern or "")
    except re.error as error:
        raise click.BadParameter(f"--grep {pattern!r}: {error}") from error
    plain = LineText(has_colours=False)

    def shows(fields: dict[str, Any]) -> bool:
        number = fields.get("level")
        is_high = not isinstance(number, int) or number >= lowest
        return is_high and (not pattern or expression.search(plain.of(fields)) is not None)

    return shows


def _has_colours() -> bool:
    return sys.stdout.isatty()

"""Implements `kafkaesk publish`: checks messages against their schemas and publishes them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import click

from kafkaesk_core import (
    Application,
    ConfigurationError,
    Delivery,
    Header,
    InvalidMessageError,
    KafkaeskError,
)
from kafkaesk_core.command import find_described

from .replica import replica_of

__all__ = ["Message", "publish_messages"]

# Any below: JSON of any type.

_HOOKS = ("codec", "wrap_publish")
_ENVELOPE = frozenset(("schema", "data"))
_SCHEMA = re.compile(r"[^:]+:[0-9]+")
_IN_FLIGHT = 1000
_LONGEST_LINE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The parts of a message beside the value; `schema` None means the stream's schema."""

    stream: str
    schema: str | None
    key: bytes | None
    headers: tuple[Header, ...]
    partition: int | None


def publish_messages(
    message: Message,
    value: str | None,
    *,
    app: str | None,
    is_raw: bool,
    is_tombstone: bool,
    is_lines: bool,
    **options: Any,  # of `cluster_options`
) -> None:
    """Publish one message, or one for each line of the input.

    Raises:
        ConfigurationError: no schema is known for the message, or its input cannot be read.
        KafkaeskError: a message does not satisfy its schema, or was not written.
    """
    if app is None and not (is_raw or is_tombstone):
        raise ConfigurationError(
            "no application says what the message must look like; name one with --app, or publish "
            "the bytes as they are with --raw"
        )
    application = None if app is None else find_described(app)
    sender = _Sender(application, message, options, is_raw=is_raw or is_tombstone)
    if is_tombstone:
        asyncio.run(sender.send(None))
        return
    with _opened(value) as file:
        if is_lines:
            asyncio.run(sender.send_lines(_lines(file)))
        else:
            asyncio.run(sender.send(file.read()))


# --- the input


@contextmanager
def _opened(value: str | None) -> Iterator[BinaryIO]:
    """Open the message's source: the argument, a file, or the standard input.

    Raises:
        ConfigurationError: there is no input, or the file cannot be read.
    """
    if value is None and sys.stdin.isatty():
        raise ConfigurationError(
            "there is no message; give it as JSON, as @FILE, or write it to the standard input"
        )
    if value is None or value == "-":
        yield sys.stdin.buffer
    elif value.startswith("@"):
        try:
            file = Path(value[1:]).open("rb")  # noqa: SIM115 - it is closed below
        except OSError as error:
            raise ConfigurationError(f"{value[1:]} cannot be read: {error.strerror}") from error
        with file:
            yield file
    else:
        yield BytesIO(value.encode(errors="surrogateescape"))


async def _lines(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the lines that are not empty; wait for a pipe or a terminal."""
    if not _is_waited_for(file):
        for line in file:
            if text := line.strip():
                yield text
        return
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        while line := await reader.readline():
            if text := line.strip():
                yield text
    except ValueError as error:
        raise InvalidMessageError(f"a line has more than {_LONGEST_LINE} bytes") from error
    finally:
        transport.close()


def _is_waited_for(file: BinaryIO) -> bool:
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # in memory
        return False


# --- sending


class _Sender:
    """Publishes through an application that has only the service's schemas."""

    def __init__(
        self,
        app: Application | None,
        message: Message,
        options: dict[str, Any],
        *,
        is_raw: bool,
    ) -> None:
        self._message = message
        self._is_raw = is_raw
        self._replica = replica_of(app, [message.stream], options, () if is_raw else _HOOKS)
        self._schema = "" if is_raw or app is None else self._choose_schema(app)

    def _choose_schema(self, app: Application) -> str:
        """Return the schema that the message must satisfy; "" if only its envelope names it."""
        message = self._message
        if message.schema is not None:
            if message.schema not in app.schemas:
                raise ConfigurationError(
                    f"schema {message.schema!r} is not registered (registered: {_list(app)})"
                )
            return message.schema
        described = app.describe()
        carried = [
            key
            for each in described["streams"]
            if each["stream"] == message.stream
            for key in each["published"] or each["schemas"]
        ]
        taken = [
            key
            for each in app.subscriptions
            if each.matches(message.stream, app.plugins.claimed_streams)
            for handler in described["handlers"]
            if (handler["handler"], handler["group"]) == (each.handler_name, each.group)
            for key in handler["schemas"]
        ]
        found = [app.schemas[key] for key in carried or taken]
        if len({each.id for each in found}) > 1:
            keys = ", ".join(sorted(each.key for each in found))
            raise ConfigurationError(
                f"stream {message.stream} may carry {keys}; say which one with --schema"
            )
        return max(found, key=lambda each: each.version).key if found else ""

    async def send(self, value: bytes | None) -> None:
        """Publish one message, and print where it was written."""
        async with self._replica:
            place = await (await self._send(value))
        click.echo(f"written to {place.topic}[{place.partition}]@{place.offset}")

    async def send_lines(self, values: AsyncIterator[bytes]) -> None:
        """Publish all values as they arrive, and print the number of written messages."""
        number, pending = 0, deque[Delivery]()
        async with self._replica:
            try:
                async for value in values:
                    pending.append(await self._send(value))
                    number += 1
                    if len(pending) > _IN_FLIGHT:
                        await pending.popleft()
            except KafkaeskError as error:
                raise InvalidMessageError(
                    f"message {number + 1}: {error}; the {number} before it were published"
                ) from error
            finally:
                await self._replica.flush()
            for delivery in pending:
                await delivery
        click.echo(f"{number} messages written to {self._message.stream}")

    async def _send(self, value: bytes | None) -> Delivery:
        message, replica = self._message, self._replica
        if self._is_raw or value is None:
            return await replica.raw_publish(
                message.stream,
                value,
                message.key,
                message.headers,
                partition=message.partition,
            )
        data, schema = self._parse(value)
        return await replica.publish(
            message.stream,
            data,
            message.key,
            message.headers,
            schema=schema,
            partition=message.partition,
        )

    def _parse(self, value: bytes) -> tuple[Any, str]:
        """Return the data and the schema of a message, which may be given in its envelope."""
        try:
            data = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidMessageError(
                f"the message is not valid JSON: {error}; publish other bytes with --raw"
            ) from error
        named = data.get("schema") if isinstance(data, dict) and data.keys() == _ENVELOPE else None
        if not (isinstance(named, str) and _SCHEMA.fullmatch(named)):
            named = None
        else:
            data = data["data"]
        if named and self._message.schema not in (None, named):
            raise InvalidMessageError(
                f"the message is an envelope of {named}, but --schema is {self._message.schema}"
            )
        schema = named or self._schema
        if not schema:
            raise InvalidMessageError(
                f"no schema is known of stream {self._message.stream}; name one with --schema "
                f"(registered: {_list(self._replica)}), or publish the bytes as they are with --raw"
            )
        return data, schema


def _list(app: Application) -> str:
    return ", ".join(sorted(app.schemas)) or "none"

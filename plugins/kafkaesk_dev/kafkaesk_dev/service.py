"""The process of a service under `kafkaesk dev`, with logs and errors for people."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

import click
from aiokafka import AIOKafkaProducer

from kafkaesk_core import Application, Description, HandlerError, KafkaeskError, PluginError, run
from kafkaesk_core.command import find_described
from kafkaesk_core.plugin import open_bootstrap

__all__ = ["main"]

_COLOURS = ((40, "red"), (30, "yellow"), (20, "green"), (0, "blue"))
_SHOWN_AT_MOST = 20


def main(arguments: str) -> None:
    """Run an application; the argument is JSON from `kafkaesk dev`."""
    given = json.loads(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)  # until the application listens: nothing is running yet
    _end_with_parent(given["lifeline"])
    _set_up_logging(sys.stderr, given["log_level"])
    try:
        app = find_described(given["app"])
        _introduce(app.describe(), Path(given["introduced"]))
        asyncio.run(_make_topics(app))
        run(app)
    except KafkaeskError as error:
        if not _is_logged(error):
            _show(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if not _is_logged(error):
            traceback.print_exc()
        sys.exit(1)


def _is_logged(error: Exception) -> bool:
    """Whether the application has logged its failure, with the traceback."""
    return getattr(error, "is_logged", False)


def _leave(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def _end_with_parent(lifeline: int) -> None:
    """Stop when the other end of a pipe is closed, because the watching process has ended."""
    os.set_inheritable(lifeline, False)

    def wait() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="kafkaesk-dev-lifeline", daemon=True).start()


def _show(error: KafkaeskError) -> None:
    """Show an error with the service's own traceback and its meaning."""
    is_own = isinstance(error, (HandlerError, PluginError)) or getattr(
        error, "needs_traceback", False
    )
    if is_own and error.__cause__ is not None:
        click.echo("".join(traceback.format_exception(error.__cause__)), err=True, nl=False)
    click.echo(click.style(f"kafkaesk: {error}", fg="red"), err=True)


def _introduce(described: Description, introduced: Path) -> None:
    """Show the service's description unless it was shown before; note what was shown."""
    text = "\n".join(_lines(described))
    if not introduced.exists() or introduced.read_text() != text:
        click.echo(text, err=True)
        introduced.write_text(text)


def _lines(described: Description) -> Iterator[str]:
    for name, values in _parts(described):
        shown = values[:_SHOWN_AT_MOST]
        shown += [f"and {len(values) - len(shown)} more"] if len(shown) < len(values) else []
        for position, value in enumerate(shown or ["none"]):
            heading = "" if position else name
            yield f"{click.style(f'{heading:<9}', bold=True)} {value}"


def _parts(described: Description) -> Iterator[tuple[str, list[str]]]:
    streams = [
        f"{each['topic']} ({', '.join(each['schemas']) or 'any'})" for each in described["streams"]
    ]
    handlers = [
        f"{each['handler']} takes {', '.join(each['streams'])} as {each['group']}"
        for each in described["handlers"]
    ]
    plugins = [each["name"] for each in described["plugins"] if each["status"] == "active"]
    yield "streams", streams
    yield "handlers", handlers
    yield "schemas", [", ".join(each["schema"] for each in described["schemas"]) or "none"]
    yield "plugins", [", ".join(plugins) or "none"]


async def _make_topics(app: Application) -> None:
    """Create the topics of a broker inside a process, which creates them only on first use.

    Otherwise a group would get a new topic only some seconds after the first message.
    """
    if not app.settings.kafka_servers[0].startswith("embedded://"):
        return
    async with (
        open_bootstrap(app.settings) as bootstrap,
        AIOKafkaProducer(bootstrap_servers=list(bootstrap.servers)) as producer,
    ):
        for stream in app.describe()["streams"]:
            await producer.partitions_for(stream["topic"])


# --- the log


class _Formatter(logging.Formatter):
    """Formats the time of day, the level, the logger and the text, in colour on a terminal."""

    def __init__(self, *, is_coloured: bool) -> None:
        super().__init__()
        self._is_coloured = is_coloured

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, without the traceback."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        colour = next(colour for least, colour in _COLOURS if record.levelno >= least)
        cells = (
            self._styled(f"{at}.{int(record.msecs):03d}", dim=True),
            self._styled(f"{record.levelname:<7}", fg=colour),
            self._styled(record.name, fg="cyan"),
        )
        return f"{' '.join(cells)} {record.message}"

    def _styled(self, text: str, *, fg: str | None = None, dim: bool | None = None) -> str:
        return click.style(text, fg=fg, dim=dim) if self._is_coloured else text


def _set_up_logging(output: TextIO, level: str) -> None:
    handler = logging.StreamHandler(output)
    is_coloured = output.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(_Formatter(is_coloured=is_coloured))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        # The core says once why a broker cannot be reached, aiokafka at each attempt.
        logging.getLogger("aiokafka").setLevel(logging.ERROR)


if __name__ == "__main__":
    main(sys.argv[1])

"""Implements `kafkaesk dev`: runs a service in a process, and restarts it after a change."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from watchfiles import PythonFilter, awatch

from kafkaesk_core import ConfigurationError
from kafkaesk_testing import EmbeddedBroker

__all__ = ["develop"]

_KILL_SECONDS = 40.0
"""Seconds after a signal: more than the default `shutdown_timeout`, so a service ends by itself."""
_PATIENCE_SECONDS = 2.0
_ALSO = (".env", ".toml")
"""Suffixes of watched files, besides Python's."""


def develop(app: str, watched: Sequence[Path], log_level: str, options: Mapping[str, Any]) -> None:
    """Run an application until Ctrl-C, and restart it whenever one of its files changes.

    Without the option `kafka_servers`, the application runs on a broker inside this process, and
    its topics survive a restart of the service.

    Raises:
        ConfigurationError: a folder to watch does not exist.
    """
    for path in watched:
        if not path.exists():
            raise ConfigurationError(f"{path} cannot be watched: it does not exist")
    with _broker(options) as servers, TemporaryDirectory(prefix="kafkaesk-dev-") as folder:
        environment = _environment(servers, options)
        introduced = Path(folder, "introduced")
        watcher = _Watcher(app, watched or [Path()], log_level, environment, introduced)
        asyncio.run(watcher.run())


@contextmanager
def _broker(options: Mapping[str, Any]) -> Iterator[str]:
    if given := options["kafka_servers"]:
        yield given
        return
    with EmbeddedBroker() as broker:
        address = f"embedded://{broker.host_port}"
        _tell("a broker runs inside this process; in another terminal, reach it with")
        click.echo(f"  export KAFKAESK_KAFKA_SERVERS={address}", err=True)
        yield address


def _environment(servers: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the service's environment, which overrides the service's own configuration."""
    given = {
        "KAFKAESK_KAFKA_SERVERS": servers,
        "PYTHONUNBUFFERED": "1",
        # Compiled code is told from its source by the second: two changes within one look the same.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if options["kafka_settings"] is not None:
        given["KAFKAESK_KAFKA_SETTINGS"] = json.dumps(options["kafka_settings"])
    if options["topic_prefix"] is not None:
        given["KAFKAESK_TOPIC_PREFIX"] = options["topic_prefix"]
    return {**os.environ, **given}


class _Watcher:
    """Keeps one process of the service running, and never two at once.

    The file `introduced` holds the description of the service once it was shown.

    The service holds the reading end of a pipe. However this process ends, the pipe is closed, and
    the service stops.
    """

    def __init__(
        self,
        app: str,
        watched: Sequence[Path],
        log_level: str,
        environment: Mapping[str, str],
        introduced: Path,
    ) -> None:
        self._app = app
        self._introduced = introduced
        self._watched = watched
        self._log_level = log_level
        self._environment = environment
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._changes: set[str] = set()

    async def run(self) -> None:
        """Run the service until a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        watching = asyncio.create_task(self._watch())
        lifeline, held = os.pipe()
        try:
            while not self._stopping.is_set():
                await self._run_once(lifeline)
        finally:
            os.close(held)
            os.close(lifeline)
            self._stopping.set()
            await watching

    async def _run_once(self, lifeline: int) -> None:
        """Run the service until a file changes or a signal arrives; then end it."""
        self._changed.clear()
        self._changes.clear()
        process = await self._start(lifeline)
        ended = asyncio.create_task(process.wait())
        try:
            await self._wait(ended)
            if ended.done() and not (self._stopping.is_set() or self._changed.is_set()):
                _tell(f"the service ended with {_code(process)}; waiting for a change")
                await self._wait()
        finally:
            await self._end(process, ended)
        if self._changed.is_set() and not self._stopping.is_set():
            names = sorted(self._changes)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            _tell(f"{names[0]}{more} changed; restarting")

    async def _start(self, lifeline: int) -> Process:
        arguments = {
            "app": self._app,
            "lifeline": lifeline,
            "introduced": str(self._introduced),
            "log_level": self._log_level,
        }
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kafkaesk_dev.service", json.dumps(arguments)),
            env=self._environment,
            pass_fds=(lifeline,),
        )

    async def _wait(self, *others: asyncio.Task[int]) -> None:
        """Wait for a change, a signal, or one of these tasks."""
        own = [
            asyncio.create_task(self._changed.wait()),
            asyncio.create_task(self._stopping.wait()),
        ]
        try:
            await asyncio.wait([*own, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in own:
                task.cancel()

    async def _end(self, process: Process, ended: asyncio.Task[int]) -> None:
        """Let the service finish and commit; kill it if it does not end.

        A terminal also sends Ctrl-C to the service, which treats two signals within 0.3 s as one.
        """
        if ended.done():
            return
        with suppress(ProcessLookupError):
            process.terminate()
        done, _ = await asyncio.wait([ended], timeout=_PATIENCE_SECONDS)
        if not done:
            _tell("waiting for the service to finish; Ctrl-C ends it now")
            done, _ = await asyncio.wait([ended], timeout=_KILL_SECONDS)
        if not done:
            _tell(f"the service has not ended within {_KILL_SECONDS:g} s, and is killed")
            with suppress(ProcessLookupError):
                process.kill()
            await ended

    async def _watch(self) -> None:
        python = PythonFilter(extra_extensions=_ALSO)
        async for changes in awatch(
            *self._watched, watch_filter=python, stop_event=self._stopping, raise_interrupt=False
        ):
            self._changes.update(_relative(path) for _, path in changes)
            self._changed.set()


def _relative(path: str) -> str:
    return os.path.relpath(path)


def _code(process: Process) -> str:
    code = process.returncode
    return f"code {code}" if code is None or code >= 0 else signal.Signals(-code).name


def _tell(text: str) -> None:
    click.echo(click.style(f"kafkaesk: {text}", fg="blue"), err=True)

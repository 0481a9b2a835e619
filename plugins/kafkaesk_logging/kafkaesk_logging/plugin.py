"""The plugin: ships the logs of a service to a stream, without code in the service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from kafkaesk_core import hookimpl

from .settings import LoggingSettings, Options

if TYPE_CHECKING:
    from kafkaesk_core import Application

__all__ = ["Logging", "LoggingPlugin"]


class LoggingPlugin:
    """Ships the lines of all handlers of an application while it runs."""

    name = "logging"
    Settings = LoggingSettings
    stage = "observe"

    def __init__(self, settings: LoggingSettings | None = None) -> None:
        self._settings = settings or LoggingSettings()

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Application) -> AsyncIterator[None]:
        """Ship while the application runs; deliver the queued lines when it stops."""
        from .applications import RUNNING

        with _attached(app, self._settings):
            RUNNING.start(app)
            try:
                yield
            finally:
                await RUNNING.stop(app)


Logging = LoggingPlugin
"""The earlier name of `LoggingPlugin`."""


@contextmanager
def _attached(app: Application, settings: LoggingSettings) -> Iterator[None]:
    """Add a handler to the loggers while the application runs, if a stream is configured."""
    if not settings.stream:
        yield
        return
    from .handler import PydanticKafkaeskHandler

    options = settings.model_dump(include=set(Options.model_fields), exclude_unset=True)
    level = logging.NOTSET if settings.level is None else settings.level
    handler = PydanticKafkaeskHandler(app, settings.stream, level=level, **options)
    loggers = [logging.getLogger(name) for name in settings.loggers or ("",)]
    lowered = []
    for logger in loggers:
        logger.addHandler(handler)
        if settings.level is not None and logger.getEffectiveLevel() > level:
            lowered.append((logger, logger.level))
            logger.setLevel(level)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        for logger, before in lowered:
            logger.setLevel(before)
        handler.close()

"""The plugin: logs of a service to a stream, with no code."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from kafkaesk_core import Application, hookimpl

from .handler import PydanticKafkaeskHandler
from .options import Level, Names, Options
from .queues import RUNS

__all__ = ["Logging", "LoggingSettings"]


class LoggingSettings(Options):
    """What the environment variables KAFKAESK_LOGGING_* set; without a `stream` nothing is shipped.

    Records of `level` and above of `loggers` (the root logger, if none is named) are shipped. If a
    level is set, it is also the loggers', unless they let through more already.
    """

    enabled: bool = True
    stream: str | None = None
    level: Level | None = None
    loggers: Names = ()


class Logging:
    """Ships the lines of all handlers of an application while it runs."""

    Settings = LoggingSettings
    stage = "observe"

    def __init__(self, settings: LoggingSettings | None = None) -> None:
        self._settings = settings or LoggingSettings()

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Application) -> AsyncIterator[None]:
        """Ship from here on; at the end deliver what is queued."""
        with _attached(app, self._settings):
            RUNS.start(app)
            try:
                yield
            finally:
                await RUNS.stop(app)


@contextmanager
def _attached(app: Application, settings: LoggingSettings) -> Iterator[None]:
    """Keep a handler of our own at the loggers, if a stream is named."""
    if not settings.stream:
        yield
        return
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

"""Lines that wait for an application which will never ship them: told once."""

from __future__ import annotations

import time
from collections.abc import Callable

from kafkaesk_core import Application

__all__ = ["Waiting"]

PATIENCE = 10.0
"""Seconds that lines wait for any application to start before that is told."""

_PLUGIN = "kafkaesk_logging.plugin:Logging"
_REMEDY = (
    "give the application Logging() of kafkaesk_logging in plugins=, or let it load the installed "
    "plugins (entry_points=True, and 'logging' not in KAFKAESK_DISABLE_PLUGINS)"
)


class Waiting:
    """Looks whether somebody will ship the lines of a queue; `application` returns who should.

    `tell` is given a text, once at most.
    """

    def __init__(
        self,
        application: Callable[[], Application | None],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._application = application
        self._tell = tell
        self._since: float | None = None
        self._is_told = False

    def look(self) -> None:
        """A line was put into a queue that nobody empties."""
        if self._is_told:
            return
        app = self._application()
        if app is not None and app.loop is not None and not _has_plugin(app):
            self._is_told = True
            self._tell(f"its application runs without the plugin 'logging'; {_REMEDY}")
            return
        now = self._clock()
        self._since = now if self._since is None else self._since
        if app is None and now - self._since > PATIENCE:
            self._is_told = True
            self._tell(
                f"no application with the plugin 'logging' has started for {PATIENCE:g} s; start "
                f"one, or {_REMEDY}"
            )


def _has_plugin(app: Application) -> bool:
    plugins = (app.plugins.get(info.name) for info in app.plugins.list())
    kinds = (kind for plugin in plugins for kind in type(plugin).__mro__)
    return any(f"{kind.__module__}:{kind.__qualname__}" == _PLUGIN for kind in kinds)

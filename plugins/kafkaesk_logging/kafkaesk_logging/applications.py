"""Tracks the running applications and their queues, and queues that no application ships."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

from kafkaesk_core import Application
from kafkaesk_core.plugin import NoteHandledMessages

__all__ = ["RUNNING", "RunningApplications", "StartWatch"]


class ShippingQueue(Protocol):
    """The part of a queue that an application's run uses."""

    def belongs_to(self, app: Application) -> bool:
        """Whether this application ships the queue."""

    def reset_after_fork(self) -> None:
        """Start empty, in a forked process."""

    def start_on(self, app: Application) -> None:
        """Start shipping."""

    async def stop(self) -> None:
        """Ship the queued lines, and stop."""


class RunningApplications:
    """Connects the open queues of the process with the applications that run in it.

    Either may come first: handlers are configured before there is an event loop, or at any time
    while an application runs, and from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._all: WeakSet[ShippingQueue] = WeakSet()  # closed queues may still be logged to
        self._open: WeakSet[ShippingQueue] = WeakSet()
        self._running: dict[Application, set[ShippingQueue]] = {}
        self._layers: dict[Application, NoteHandledMessages] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._is_watching_forks = False

    def _reset_after_fork(self) -> None:
        """Reset in a forked process, where no application runs and no held lock is released."""
        self._lock = threading.RLock()
        self._running.clear()
        self._layers.clear()
        self._ending.clear()
        for queue in list(self._all):
            queue.reset_after_fork()

    def opened(self, queue: ShippingQueue) -> None:
        """Note a new queue, and start it if its application runs."""
        with self._lock:
            if not self._is_watching_forks:
                self._is_watching_forks = True
                os.register_at_fork(after_in_child=self._reset_after_fork)
            self._all.add(queue)
            self._open.add(queue)
            for app in self._running:
                if app.loop is not None and queue.belongs_to(app):
                    app.loop.call_soon_threadsafe(self._attach, app, queue)
                    return

    def closed(self, queue: ShippingQueue) -> bool:
        """Note that a queue takes no more lines; return whether an application is emptying it."""
        with self._lock:
            self._open.discard(queue)
            for app, queues in self._running.items():
                if queue in queues and app.loop is not None and not app.loop.is_closed():
                    app.loop.call_soon_threadsafe(self._detach, app, queue)
                    return True
        return False

    def start(self, app: Application) -> None:
        """Start the application's queues; called on its event loop."""
        with self._lock:
            self._running[app] = set()
        self._attach_all(app)

    async def stop(self, app: Application) -> None:
        """Empty the application's queues, each within its `drain_timeout`."""
        self._attach_all(app)  # a queue may have been opened since the loop last ran callbacks
        with self._lock:
            queues = self._running.pop(app, set())
        loop = asyncio.get_running_loop()
        ending = [task for task in self._ending if task.get_loop() is loop]
        await asyncio.gather(*(queue.stop() for queue in queues), *ending)
        if layers := self._layers.pop(app, None):
            app.plugins.unregister(layers)

    def _attach_all(self, app: Application) -> None:
        with self._lock:
            mine = [queue for queue in self._open if queue.belongs_to(app)]
        for queue in mine:
            self._attach(app, queue)

    def _attach(self, app: Application, queue: ShippingQueue) -> None:
        queues = self._running.get(app)
        if queues is not None and queue not in queues and queue in self._open:
            queues.add(queue)
            queue.start_on(app)
            if app not in self._layers:  # without a queue no message has to be noted
                layers = self._layers[app] = NoteHandledMessages()
                app.plugins.register(layers, "logging.handled", source="kafkaesk-logging")

    def _detach(self, app: Application, queue: ShippingQueue) -> None:
        queues = self._running.get(app, set())
        if queue in queues:
            queues.remove(queue)
            task = asyncio.get_running_loop().create_task(queue.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


RUNNING = RunningApplications()
"""The applications of this process."""


# --- queues that no application ships

PATIENCE = 10.0
"""Seconds that lines wait for any application to start before the queue reports it."""

_PLUGIN = "kafkaesk_logging.plugin:LoggingPlugin"
_REMEDY = (
    "give the application LoggingPlugin() of kafkaesk_logging in plugins=, or let it load the "
    "installed plugins (entry_points=True, and 'logging' not in KAFKAESK_DISABLE_PLUGINS)"
)


class StartWatch:
    """Checks whether an application will ship the lines of a queue.

    `application` returns the expected application. `report` is called with a text, at most once.
    """

    def __init__(
        self,
        application: Callable[[], Application | None],
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._application = application
        self._report = report
        self._since: float | None = None
        self._is_reported = False

    def check(self) -> None:
        """Check for an application, after a line was put into a queue that none ships."""
        if self._is_reported:
            return
        app = self._application()
        if app is not None and app.loop is not None and not _has_plugin(app):
            self._is_reported = True
            self._report(f"their application runs without the plugin 'logging'; {_REMEDY}")
            return
        now = self._clock()
        self._since = now if self._since is None else self._since
        if app is None and now - self._since > PATIENCE:
            self._is_reported = True
            self._report(
                f"no application with the plugin 'logging' has started for {PATIENCE:g} s; start "
                f"one, or {_REMEDY}"
            )


def _has_plugin(app: Application) -> bool:
    plugins = (app.plugins.get(info.name) for info in app.plugins.list())
    kinds = (kind for plugin in plugins for kind in type(plugin).__mro__)
    return any(f"{kind.__module__}:{kind.__qualname__}" == _PLUGIN for kind in kinds)

"""Which applications run, and the queues that ship to each of them."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Protocol
from weakref import WeakSet

from kafkaesk_core import Application
from kafkaesk_core.plugin import NoteHandledMessages

__all__ = ["Runs"]


class Ships(Protocol):
    """What a queue is to an application's run."""

    def belongs_to(self, app: Application) -> bool:
        """Whether this application is the one to ship with."""

    def renew(self) -> None:
        """Begin with nothing, in a forked process."""

    def start_on(self, app: Application) -> None:
        """Begin to ship."""

    async def stop(self) -> None:
        """Ship what there is, and end."""


class Runs:
    """Brings the open queues of the process together with the applications that run in it.

    Either may come first: handlers are configured before there is an event loop, at any time
    while an application runs, and from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._all: WeakSet[Ships] = WeakSet()  # closed ones may still be logged to
        self._open: WeakSet[Ships] = WeakSet()
        self._running: dict[Application, set[Ships]] = {}
        self._layers: dict[Application, NoteHandledMessages] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._is_watching_forks = False

    def _renew(self) -> None:
        """Begin anew in a forked process: nothing runs there, and nobody gives the locks back."""
        self._lock = threading.RLock()
        self._running.clear()
        self._layers.clear()
        self._ending.clear()
        for queue in list(self._all):
            queue.renew()

    def opened(self, queue: Ships) -> None:
        """A queue was made."""
        with self._lock:
            if not self._is_watching_forks:
                self._is_watching_forks = True
                os.register_at_fork(after_in_child=self._renew)
            self._all.add(queue)
            self._open.add(queue)
            for app in self._running:
                if app.loop is not None and queue.belongs_to(app):
                    app.loop.call_soon_threadsafe(self._attach, app, queue)
                    return

    def closed(self, queue: Ships) -> bool:
        """A queue takes no more; return whether it is being emptied by an application."""
        with self._lock:
            self._open.discard(queue)
            for app, queues in self._running.items():
                if queue in queues and app.loop is not None and not app.loop.is_closed():
                    app.loop.call_soon_threadsafe(self._detach, app, queue)
                    return True
        return False

    def start(self, app: Application) -> None:
        """An application starts; called on its event loop."""
        with self._lock:
            self._running[app] = set()
        self._attach_all(app)

    async def stop(self, app: Application) -> None:
        """An application stops: its queues are emptied, as far as that works in time."""
        self._attach_all(app)  # one may have been made since the loop last had its turn
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

    def _attach(self, app: Application, queue: Ships) -> None:
        queues = self._running.get(app)
        if queues is not None and queue not in queues and queue in self._open:
            queues.add(queue)
            queue.start_on(app)
            if app not in self._layers:  # only now do messages have to be noted
                layers = self._layers[app] = NoteHandledMessages()
                app.plugins.register(layers, "logging.handled", source="kafkaesk-logging")

    def _detach(self, app: Application, queue: Ships) -> None:
        queues = self._running.get(app, set())
        if queue in queues:
            queues.remove(queue)
            task = asyncio.get_running_loop().create_task(queue.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

"""The queue between log calls and the application that ships their lines."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from kafkaesk_core import Application, ConfigurationError

from .buffer import Buffer, Entry, LogStats
from .fallback import Fallback
from .line import SCHEMA, PydanticLogModel, enveloped
from .losses import Losses
from .options import QueueOptions, read_options
from .runs import Runs
from .waiting import Waiting
from .worker import Worker

__all__ = ["RUNS", "AppReference", "KafkaeskQueue"]

AppReference = Application | str | Callable[[], Application] | None
RUNS = Runs()


class KafkaeskQueue:
    """Takes lines from any thread at any time, and ships them while its application runs.

    `app` is the application, "module:attribute", a function that returns it, or None for the one
    that starts next. Lines put in before it starts wait; what is put in after its end is lost and
    counted, and shown on standard error if it is important. `options` are QueueOptions.

    Raises:
        ConfigurationError: an option is unknown or wrong.
    """

    # Any: options of several types, checked at once.
    def __init__(
        self, app: AppReference = None, max_queue: int | None = None, **options: Any
    ) -> None:
        if max_queue is not None:
            options["queue_size"] = max_queue
        self.options = read_options(QueueOptions, options, type(self).__name__)
        _check_reference(app)
        self._app = app
        self._losses = Losses(self.options.report_interval)
        shown_level = self.options.fallback_level if self.options.fallback else None
        self.fallback = Fallback(shown_level)
        self.buffer = Buffer(self.options, self._losses.note)
        self._waiting = Waiting(self._application, self._tell_waiting)
        self._worker: Worker | None = None
        self._is_ended = False
        self._users = 0
        self._lock = threading.RLock()
        RUNS.opened(self)

    @property
    def running(self) -> bool:
        """Whether lines are being shipped."""
        return self._worker is not None and self._worker.is_running

    def stats(self) -> LogStats:
        """Count lines by what became of them."""
        return self.buffer.stats()

    def belongs_to(self, app: Application) -> bool:
        """Whether this application is the one to ship with."""
        return not self.running if self._app is None else self._application() is app

    def _application(self) -> Application | None:
        """The application that was named, as far as it is there."""
        reference = self._app
        if isinstance(reference, str):
            module, _, attribute = reference.partition(":")
            found: object = sys.modules.get(module)
            for name in attribute.split("."):
                found = getattr(found, name, None)
            return found if isinstance(found, Application) else None
        if reference is None or isinstance(reference, Application):
            return reference
        return reference()

    def _tell_waiting(self, why: str) -> None:
        self._losses.hindered(why, self.stats().queue_size)

    # --- in

    def put(self, entry: Entry, level: int) -> None:
        """Add a line of a record of this level."""
        if self._is_ended:
            self.buffer.refuse("closed")
            self._losses.note("closed", 1)
            if level >= self.options.fallback_level:
                self.fallback.show_line(entry[0])
            return
        must_wake, worker = self.buffer.put(entry), self._worker
        if worker is None:
            self._waiting.look()
        elif must_wake:
            worker.wake()

    def put_nowait(self, stream: str, data: BaseModel | dict[str, Any]) -> None:
        """Add a line, given its fields."""
        fields = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
        self.put((enveloped(fields), stream, None, int(time.time() * 1000)), logging.NOTSET)

    def renew(self) -> None:
        """Begin with nothing, in a process that was forked: the parent ships what it had."""
        self.buffer.renew()
        self._losses.renew()
        self._lock = threading.RLock()
        self._worker = None
        self._is_ended = False

    # --- an application's run

    def start_on(self, app: Application) -> None:
        """Begin to ship, on the application's event loop."""
        self._is_ended = False
        if SCHEMA not in app.schemas:
            name, _, version = SCHEMA.partition(":")
            declare = app.schema(name, version=int(version), retention=self.options.retention)
            declare(PydanticLogModel)
        self._worker = Worker(app, self.buffer, self._losses, self.options)

    async def stop(self) -> None:
        """Ship what there is, within `drain_timeout`; what is left is lost, told and shown."""
        worker = self._worker
        if worker is None:
            return
        left: list[Entry] = []
        try:
            left = await worker.drain(self.options.drain_timeout)
        finally:
            self._worker = None
            self._end(left)

    def _end(self, unanswered: Sequence[Entry] = ()) -> None:
        self._is_ended = True
        left = [*unanswered, *self.buffer.abandon("closed")]
        self._losses.close(at_end=True)
        for entry in left:
            self.fallback.show_line(entry[0])

    async def drain(self, timeout: float) -> bool:
        """Wait until everything put in so far was answered; say whether that was so in time."""
        return await asyncio.to_thread(self.buffer.wait_until_settled, timeout)

    def flush(self, timeout: float) -> bool:
        """Wait until everything was shipped; on the application's own event loop, do not wait."""
        if not self.running or self.buffer.loop_thread == threading.get_ident():
            return False
        return self.buffer.wait_until_settled(timeout)

    # --- who uses it

    def acquire(self) -> None:
        """One more handler uses it."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """One handler less uses it; the last one closes it."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self.close()

    def close(self) -> None:
        """Take no more; what is there is shipped if the application runs, else it is lost."""
        if not RUNS.closed(self):
            self._end()


def _check_reference(app: object) -> None:
    if isinstance(app, str):
        module, _, attribute = app.partition(":")
        if not module or not attribute:
            raise ConfigurationError(
                f"app {app!r} is not 'module:attribute', as in 'shop.main:app'"
            )
    elif not (app is None or isinstance(app, Application) or callable(app)):
        raise ConfigurationError(
            f"app is {app!r}; give an Application, 'module:attribute', a function that returns it, "
            "or None for the application that starts next"
        )

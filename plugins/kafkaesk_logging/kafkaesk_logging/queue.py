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

from .applications import RUNNING, StartWatch
from .buffer import Buffer, Entry, LogStats
from .envelope import SCHEMA, PydanticLogModel, enveloped
from .losses import Fallback, Losses
from .settings import QueueOptions, read_options
from .shipper import Shipper

__all__ = ["AppReference", "KafkaeskQueue"]

AppReference = Application | str | Callable[[], Application] | None


class KafkaeskQueue:
    """Takes lines from any thread at any time, and ships them while its application runs.

    `app` is the application, "module:attribute", a function that returns the application, or None
    for the application that starts next. Lines from before its start wait. Lines from after its
    stop count as lost, and are shown on standard error if they have `fallback_level` or above.
    `options` are QueueOptions.

    Raises:
        ConfigurationError: an option is unknown or invalid.
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
        self._start_watch = StartWatch(self._application, self._report_waiting)
        self._shipper: Shipper | None = None
        self._is_ended = False
        self._users = 0
        self._lock = threading.RLock()
        RUNNING.opened(self)

    @property
    def running(self) -> bool:
        """Whether lines are being shipped."""
        return self._shipper is not None and self._shipper.is_running

    def stats(self) -> LogStats:
        """Return the counts of queued, delivered, dropped and suppressed lines."""
        return self.buffer.stats()

    def belongs_to(self, app: Application) -> bool:
        """Whether this application ships the queue."""
        return not self.running if self._app is None else self._application() is app

    def _application(self) -> Application | None:
        """Return the application that `app` names; None while it does not exist."""
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

    def _report_waiting(self, why: str) -> None:
        self._losses.hindered(why, self.stats().queue_size)

    # --- in

    def put(self, entry: Entry, level: int) -> None:
        """Add the line of a record with this level."""
        if self._is_ended:
            self.buffer.refuse("closed")
            self._losses.note("closed", 1)
            if level >= self.options.fallback_level:
                self.fallback.show_line(entry[0])
            return
        must_wake, shipper = self.buffer.put(entry), self._shipper
        if shipper is None:
            self._start_watch.check()
        elif must_wake:
            shipper.wake()

    def put_nowait(self, stream: str, data: BaseModel | dict[str, Any]) -> None:
        """Add a line with these fields."""
        fields = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
        self.put((enveloped(fields), stream, None, int(time.time() * 1000)), logging.NOTSET)

    def reset_after_fork(self) -> None:
        """Start empty in a forked process; the parent ships the lines that it has."""
        self.buffer.reset_after_fork()
        self._losses.reset_after_fork()
        self._lock = threading.RLock()
        self._shipper = None
        self._is_ended = False

    # --- an application's run

    def start_on(self, app: Application) -> None:
        """Start shipping, on the application's event loop."""
        self._is_ended = False
        if SCHEMA not in app.schemas:
            name, _, version = SCHEMA.partition(":")
            declare = app.schema(name, version=int(version), retention=self.options.retention)
            declare(PydanticLogModel)
        self._shipper = Shipper(app, self.buffer, self._losses, self.options)

    async def stop(self) -> None:
        """Ship the queued lines within `drain_timeout`; report and show the remaining lines."""
        shipper = self._shipper
        if shipper is None:
            return
        left: list[Entry] = []
        try:
            left = await shipper.drain(self.options.drain_timeout)
        finally:
            self._shipper = None
            self._end(left)

    def _end(self, unanswered: Sequence[Entry] = ()) -> None:
        self._is_ended = True
        left = [*unanswered, *self.buffer.abandon("closed")]
        self._losses.close(at_end=True)
        for entry in left:
            self.fallback.show_line(entry[0])

    async def drain(self, timeout: float) -> bool:
        """Wait until every line so far has its outcome; return False if that takes too long."""
        return await asyncio.to_thread(self.buffer.wait_until_settled, timeout)

    def flush(self, timeout: float) -> bool:
        """Wait until every line has its outcome; do not wait on the application's event loop."""
        if not self.running or self.buffer.loop_thread == threading.get_ident():
            return False
        return self.buffer.wait_until_settled(timeout)

    # --- the handlers that use it

    def acquire(self) -> None:
        """Count one more handler that uses the queue."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Count one handler less; the last handler closes the queue."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self.close()

    def close(self) -> None:
        """Take no more lines; queued lines are shipped if the application runs, else lost."""
        if not RUNNING.closed(self):
            self._end()


def _check_reference(app: object) -> None:
    if isinstance(app, str):
        module, _, attribute = app.partition(":")
        if not module or not attribute:
            raise ConfigurationError(
                f"app {app!r} is not 'module:attribute'; write it as in 'shop.main:app'"
            )
    elif not (app is None or isinstance(app, Application) or callable(app)):
        raise ConfigurationError(
            f"app is {app!r}; give an Application, 'module:attribute', a function that returns it, "
            "or None for the application that starts next"
        )

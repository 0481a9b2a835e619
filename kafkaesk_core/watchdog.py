"""The end of a process that does not end by itself: what still runs, and the exit all the same."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic
from typing import Any

__all__ = ["Watchdog", "describe_task", "describe_thread", "exit_now", "threads_named"]

logger = logging.getLogger("kafkaesk.app")

FLUSH_SECONDS = 2.0
"""For log handlers and exit functions, which may hang as well."""


RUNS_THREADS = ("/threading.py", "/concurrent/futures/thread.py")


class Watchdog:
    """Ends the process after a while, unless disarmed; a thread of its own once it is armed."""

    def __init__(self) -> None:
        self.exit_code = 5
        """What it ends the process with: what it would have ended with, if that is known."""
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._is_disarmed = False

    def arm(self, seconds: float) -> None:
        """End the process in so many seconds, if nobody has asked for it earlier."""
        with self._changed:
            is_first = self._deadline is None
            self._deadline = min(self._deadline or inf, monotonic() + seconds)
            self._changed.notify()
        if is_first:
            threading.Thread(target=self._watch, name="kafkaesk-watchdog", daemon=True).start()

    def disarm(self) -> None:
        """Let the process live; it can be armed no more."""
        with self._changed:
            self._is_disarmed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_disarmed and (left := (self._deadline or inf) - monotonic()) > 0:
                self._changed.wait(left)
            if self._is_disarmed:
                return
        exit_now(self.exit_code, self._report)

    def _report(self) -> None:
        for thread in _threads_in_the_way():
            logger.critical("shutdown_timeout is over, and %s", describe_thread(thread))
        logger.critical("ending the process, with exit code %d", self.exit_code)


def exit_now(code: int, report: Callable[[], object] = lambda: None) -> None:
    """End the process whatever still runs; reports and exit functions get 2 seconds each."""
    # In threads of their own: each of them may wait for a lock that what hangs has taken.
    for work in (report, atexit._run_exitfuncs, logging.shutdown):  # noqa: SLF001
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)
    os._exit(code)


def threads_named(prefix: str) -> list[threading.Thread]:
    """The running threads whose names start with this."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def describe_thread(thread: threading.Thread) -> str:
    """What a thread runs: the innermost Python function, and where it is in it."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001
    stack = [] if frame is None else traceback.extract_stack(frame)
    own = [place for place in stack if not place.filename.endswith(RUNS_THREADS)]
    if not own:
        return f"thread {thread.name} still runs, in a call that is not Python code"
    place = own[-1]
    return (
        f"thread {thread.name} still runs {place.name}(), "
        f"at {place.filename}:{place.lineno}: {place.line}"
    )


def describe_task(task: asyncio.Task[Any]) -> str:
    """Where a suspended task waits: the innermost function that it awaits."""
    awaiting: Any = task.get_coro()
    place = ""
    while (frame := getattr(awaiting, "cr_frame", None)) is not None:
        code = frame.f_code
        # What asyncio awaits by itself, such as a sleep, says less than who sleeps.
        if not place or "/asyncio/" not in code.co_filename:
            place = f" {code.co_qualname}(), at {code.co_filename}:{frame.f_lineno}"
        awaiting = awaiting.cr_await
    return f"task {task.get_name()} still runs{place}"


def _threads_in_the_way() -> Iterator[threading.Thread]:
    for thread in threading.enumerate():
        if not thread.daemon:
            yield thread

"""Runs an application as a process: handles signals, and ends within a time limit.

The package exports the function `run`. No module has that name, because importing the module would
replace the function.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from threading import Thread
from time import monotonic
from typing import Any

from .application import Application
from .errors import KafkaeskError, ShutdownIncompleteError
from .shutdown import Shutdown
from .threads import THREADS

__all__ = [
    "Watchdog",
    "describe_task",
    "describe_thread",
    "exit_now",
    "run",
    "run_app",
    "threads_named",
]

logger = logging.getLogger("kafkaesk.app")

ECHO = 0.3
"""Seconds in which further signals count as the same signal. A supervisor signals the whole process
group, and the parent program (`uv run`, a shell, an init) passes its own signal on."""

EXIT_SECONDS = 2.0
"""Seconds for the exit functions of the process, if the stop has used up `shutdown_timeout`."""
CANCEL_SECONDS = 0.5
"""Seconds for tasks that remain after the application has stopped and cancelled its own tasks."""


def run(app: Application) -> None:
    """Start an application, consume until SIGINT or SIGTERM, and stop it.

    A stop drains: handlers finish, offsets are committed, buffered messages are delivered. It takes
    at most `shutdown_timeout`, even if a handler ignores its cancellation or waits for a thread.
    After a signal the process ends at the latest one second after that limit, even if the event
    loop is blocked. A second signal, more than 0.3 s after the first one, ends the process at once.

    Raises:
        KafkaeskError: the application could not start, or had to stop; the error says why.
        ShutdownIncompleteError: the application stopped, but tasks or threads still run.
    """
    watchdog = Watchdog()
    try:
        _run(app, _Signals(app, watchdog))
    finally:
        watchdog.disarm()


def run_until_exit(app: Application) -> None:
    """Like `run`, for a process that does nothing else: the exit is part of the time limit.

    Raises:
        KafkaeskError: the application could not start, or had to stop; the error says why.
        ShutdownIncompleteError: the application stopped, but tasks or threads still run.
    """
    watchdog = Watchdog()
    signals = _Signals(app, watchdog)
    try:
        _run(app, signals)
        watchdog.exit_code = 0
    except KafkaeskError as error:
        watchdog.exit_code = error.exit_code
        raise
    finally:
        watchdog.arm(max(signals.seconds_left(), EXIT_SECONDS))


def _run(app: Application, signals: _Signals) -> None:
    loop = asyncio.new_event_loop()
    executor = ThreadPoolExecutor(thread_name_prefix=THREADS)
    loop.set_default_executor(executor)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_run_app(app, app.consume_forever(), signals))
    except BaseException:
        for still_runs in _close(loop, executor, signals.seconds_left()):
            logger.error("the application has stopped, but %s", still_runs)
        raise
    if still_running := _close(loop, executor, signals.seconds_left()):
        raise ShutdownIncompleteError(still_running)


def _close(
    loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor, seconds: float
) -> list[str]:
    """End the remaining tasks and threads; return those that still run after `seconds`.

    `asyncio.run` does the same, but its waits have no limit.
    """
    still_running = []
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        waiting = asyncio.wait(tasks, timeout=min(CANCEL_SECONDS, seconds))
        _, tasks = loop.run_until_complete(waiting)
        still_running += [describe_task(task) for task in tasks]
    executor.shutdown(wait=False, cancel_futures=True)
    end = loop.time() + seconds
    threads = threads_named(THREADS)
    if not all(_has_ended(thread, 0.1) for thread in threads):
        described = "; ".join(map(describe_thread, threads))
        logger.warning("waiting up to %.0f seconds for threads of handlers: %s", seconds, described)
    still_running += [
        describe_thread(thread)
        for thread in threads
        if not _has_ended(thread, max(end - loop.time(), 0.0))
    ]
    if not still_running:
        loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()
    return still_running


def _has_ended(thread: Thread, timeout: float) -> bool:
    thread.join(timeout)
    return not thread.is_alive()


def run_app(app: Application) -> Coroutine[Any, Any, None]:
    """Like `run`, in your own event loop; the process is never ended by force."""
    return _run_app(app, app.consume_forever(), _Signals(app))


async def _run_app(
    app: Application, consuming: Coroutine[Any, Any, None], signals: _Signals
) -> None:
    loop = asyncio.get_running_loop()
    signals.work = loop.create_task(_serve(app, consuming, signals))
    signals.listen(loop)
    try:
        await signals.work
    except asyncio.CancelledError:
        if not signals.has_cancelled:
            raise
    finally:
        consuming.close()  # it was never awaited if the start failed
        signals.ignore(loop)


async def _serve(app: Application, consuming: Coroutine[Any, Any, None], signals: _Signals) -> None:
    async with app:
        signals.shutdown = app.shutdown
        try:
            await consuming
        finally:
            signals.is_ending = True


class _Signals:
    """Lets the first signal stop the application or its start, and the second end the process."""

    def __init__(self, app: Application, watchdog: Watchdog | None = None) -> None:
        self._app = app
        self._watchdog = watchdog
        self._stopping: asyncio.Task[None] | None = None
        self._first: float | None = None
        self._timeout = app.settings.shutdown_timeout
        self.work: asyncio.Task[None]
        self.has_cancelled = False
        self.is_ending = False  # consuming has ended
        self.shutdown: Shutdown | None = None

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handle SIGINT and SIGTERM from here on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_signal, number)
            if self._watchdog is not None:
                # Python calls this function between two steps of the main thread, also while a
                # handler blocks the event loop. The loop is still woken, too.
                signal.signal(number, self._arm_watchdog)

    def ignore(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop handling SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _arm_watchdog(self, *_: object) -> None:
        if self._watchdog is not None:
            self._watchdog.arm(self._timeout + 1)

    def handle_signal(self, number: signal.Signals) -> None:
        """Handle one signal, in the event loop."""
        now = asyncio.get_running_loop().time()
        if self._first is not None:
            if now - self._first < ECHO:
                return
            logger.warning("%s again: exiting now, without finishing", number.name)
            logging.shutdown()
            os._exit(128 + number)
        self._first = now
        logger.info("%s: stopping; send it again to exit now", number.name)
        if self._app.is_consuming:
            self._stopping = asyncio.get_running_loop().create_task(self._app.stop())
        elif not self._ends_by_itself():
            self.has_cancelled = True
            self.work.cancel()

    def _ends_by_itself(self) -> bool:
        """Whether nothing is left to stop: consuming has ended, or a failed start was undone."""
        shutdown = self._app.shutdown
        return self.is_ending or (shutdown is not None and shutdown.is_running)

    def seconds_left(self) -> float:
        """Return the seconds left of `shutdown_timeout`."""
        return self._timeout if self.shutdown is None else self.shutdown.left("disconnect")


# --- the end of a process that does not end by itself

FLUSH_SECONDS = 2.0
"""Seconds for log handlers and exit functions, which may also hang."""


RUNS_THREADS = ("/threading.py", "/concurrent/futures/thread.py")


class Watchdog:
    """Ends the process after a time, unless disarmed; it gets its own thread when armed."""

    def __init__(self) -> None:
        self.exit_code = 5
        """The exit code; the application's own once it is known."""
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._is_disarmed = False

    def arm(self, seconds: float) -> None:
        """End the process in `seconds`, or earlier if it is already armed for an earlier time."""
        with self._changed:
            is_first = self._deadline is None
            self._deadline = min(self._deadline or inf, monotonic() + seconds)
            self._changed.notify()
        if is_first:
            threading.Thread(target=self._watch, name="kafkaesk-watchdog", daemon=True).start()

    def disarm(self) -> None:
        """Never end the process."""
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
    """End the process, whatever still runs; reports and exit functions get 2 seconds each."""
    # Each runs in its own thread, because it may wait for a lock that the hanging code holds.
    for work in (report, atexit._run_exitfuncs, logging.shutdown):  # noqa: SLF001
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)
    os._exit(code)


def threads_named(prefix: str) -> list[threading.Thread]:
    """Return the running threads with this prefix in their names."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def describe_thread(thread: threading.Thread) -> str:
    """Return where a thread is: the innermost Python function, its file and line."""
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
    """Return where a suspended task waits: the innermost function that it awaits."""
    awaiting: Any = task.get_coro()
    place = ""
    while (frame := getattr(awaiting, "cr_frame", None)) is not None:
        code = frame.f_code
        # A line inside asyncio, such as a sleep, is less informative than the line that called it.
        if not place or "/asyncio/" not in code.co_filename:
            place = f" {code.co_qualname}(), at {code.co_filename}:{frame.f_lineno}"
        awaiting = awaiting.cr_await
    return f"task {task.get_name()} still runs{place}"


def _threads_in_the_way() -> Iterator[threading.Thread]:
    for thread in threading.enumerate():
        if not thread.daemon:
            yield thread

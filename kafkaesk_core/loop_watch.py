"""Watches the event loop, and names the handler that blocks it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from time import monotonic
from types import CodeType, FrameType

__all__ = ["LoopWatch"]

logger = logging.getLogger("kafkaesk.app")

TICK = 0.25
"""Seconds between two beats of the loop, and between two checks for them."""

LIMIT = 1.0
QUIET = 60.0
"""Seconds in which one culprit is reported once, because it may block the loop for each message."""

_NOT_CULPRITS = ("asyncio", "kafkaesk_core", "contextlib")


@dataclass(slots=True)
class _Block:
    """One period in which the loop was blocked."""

    since: float
    culprit: str
    is_reported: bool


class LoopWatch:
    """Watches the event loop from a thread while handlers run, at no cost per message.

    `handlers` maps code objects to the names of handlers.
    """

    def __init__(self, handlers: Mapping[CodeType, str]) -> None:
        self._handlers = handlers
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watched = 0  # the loop's thread
        self._beat = 0.0
        self._block: _Block | None = None
        self._reported: dict[str, float] = {}

    def start(self) -> None:
        """Watch the running event loop."""
        self._watched = threading.get_ident()
        self._live(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._look, name="kafkaesk-loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; do nothing if watching was not started."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the loop is running, and report a block that has ended."""
        now = monotonic()
        self._beat = now
        block, self._block = self._block, None
        if block is not None and block.is_reported:
            logger.warning(
                "the event loop runs again; %s blocked it for %.1f s",
                block.culprit,
                now - block.since,
            )
        self._timer = loop.call_later(TICK, self._live, loop)

    # --- in the thread

    def _look(self) -> None:
        looked = monotonic()
        while not self._ended.wait(TICK):
            now = monotonic()
            if now - looked > LIMIT:  # this thread did not run either: the process was suspended
                self._beat = now
            looked = now
            beat = self._beat
            if self._block is None and now - beat > LIMIT:
                self._found(beat, now)

    def _found(self, beat: float, now: float) -> None:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - it is documented
        culprit = self._culprit(frame)
        if culprit is None or beat != self._beat:  # the loop runs again by now
            return
        is_new = now - self._reported.get(culprit, -QUIET) >= QUIET
        if is_new:
            self._reported[culprit] = now
        self._block = _Block(beat, culprit, is_new)
        if is_new:
            logger.warning(
                "the event loop has been blocked for %.1f s by %s; call blocking code with await "
                "asyncio.to_thread(...), or the group removes this process as dead",
                *(now - beat, culprit),
            )

    def _culprit(self, frame: FrameType | None) -> str | None:
        """Return the innermost handler on the stack, else the innermost function of the service."""
        frames = list(_outwards(frame))
        for found in frames:
            if found.f_code in self._handlers:
                return f"handler {self._handlers[found.f_code]} ({_place(found)})"
        for found in frames:
            module = str(found.f_globals.get("__name__", "?"))
            if module.partition(".")[0] not in _NOT_CULPRITS:
                return f"{module}.{found.f_code.co_qualname} ({_place(found)})"
        return None


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames that the loop runs now, innermost first; none while it waits for events."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == "selectors" or (module.startswith("asyncio.") and _is_of_loop(frame)):
            return
        yield frame
        frame = frame.f_back


def _is_of_loop(frame: FrameType) -> bool:
    return frame.f_code.co_name in ("_run", "_run_once", "run_forever", "run_until_complete", "run")


def _place(frame: FrameType) -> str:
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"

"""The start or the stop of an application that is under way: one at a time, and none in itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Literal

from .errors import NotRunningError

__all__ = ["Transition"]

Kind = Literal["start", "stop"]

_ING: dict[Kind, str] = {"start": "starting", "stop": "stopping"}
_REFUSALS: dict[tuple[Kind, Kind], str] = {
    ("start", "start"): "what starts it cannot wait for the start, as publishing and consuming do; "
    "publish in an 'initialize' handler",
    ("start", "stop"): "what starts it cannot finalize it; raise to stop the start",
    ("stop", "start"): "what it calls at its end cannot start it again; do that where finalize() "
    "has returned",
    ("stop", "stop"): "what it calls at its end cannot finalize it; return, and the stop continues",
}
"""What cannot be done, by what is under way and what is attempted."""

_WITHIN = ContextVar[object | None]("kafkaesk_transition", default=None)
"""Stands for the transition that has called, or started the task of, who asks."""


class Transition:
    """Lets one start or stop of an application run at a time; a second one waits.

    A handler or a plugin that is called by the first one would wait for itself, which is an error.
    A task that it has started may wait, because nothing need wait for the task; if that lasts
    longer than `patience()` seconds, it is an error too.
    """

    def __init__(self, patience: Callable[[], float]) -> None:
        self._patience = patience
        self._lock = asyncio.Lock()
        self._kind: Kind = "start"
        self._task: asyncio.Task[Any] | None = None
        self._this: object | None = None

    @asynccontextmanager
    async def begin(self, kind: Kind) -> AsyncIterator[None]:
        """Wait for the transition under way, and begin one.

        Raises:
            NotRunningError: the transition under way waits for the caller.
        """
        task = asyncio.current_task()
        if self._task is not None and self._task is task:
            raise NotRunningError(
                f"the application is {_ING[self._kind]}, so {_REFUSALS[self._kind, kind]}"
            )
        await self._wait(kind)
        self._kind, self._task, self._this = kind, task, object()
        token = _WITHIN.set(self._this)
        try:
            yield
        finally:
            _WITHIN.reset(token)
            self._task = self._this = None
            self._lock.release()

    async def _wait(self, kind: Kind) -> None:
        is_within = self._this is not None and _WITHIN.get() is self._this
        patience = self._patience() if is_within else None
        try:
            async with asyncio.timeout(patience):
                await self._lock.acquire()
        except TimeoutError:
            raise NotRunningError(
                f"the application is still {_ING[self._kind]} after {patience:g} seconds, in "
                f"which a task that it has started has waited to {kind} it; if a handler or a "
                f"plugin awaits that task, neither ends: {_REFUSALS[self._kind, kind]}"
            ) from None

    def check_endless(self) -> None:
        """Refuse consuming without an end in what starts the application.

        Raises:
            NotRunningError: the caller starts the application.
        """
        if self._kind == "start" and self._task is asyncio.current_task():
            raise NotRunningError(
                "consume_forever() returns after a stop, so an application whose start awaits it "
                "never starts; call it where initialize() has returned, or in a task"
            )

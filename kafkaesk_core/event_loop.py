"""One application, one event loop: use from another loop is an error, and does not hang."""

from __future__ import annotations

import asyncio

from .errors import NotRunningError

__all__ = ["check_loop"]


def check_loop(owner: asyncio.AbstractEventLoop | None, attempted: str) -> None:
    """Check that the running event loop is the owner's; None has no owner.

    Raises:
        NotRunningError: it is another one; the error names both loops and the remedy.
    """
    running = asyncio.get_running_loop()
    if owner is None or owner is running:
        return
    if owner.is_closed():
        remedy = (
            "end it with 'async with app' or await app.finalize() before its loop is closed, and "
            "give fixtures and tests one loop (pytest-asyncio: the same loop_scope)"
        )
    else:
        remedy = (
            "use one application per event loop (pytest-asyncio: the same loop_scope for fixtures "
            "and tests); in another thread, use asyncio.run_coroutine_threadsafe(..., app.loop)"
        )
    raise NotRunningError(
        f"{attempted} was used on event loop {_name(running)}, but the application runs on event "
        f"loop {_name(owner)}; {remedy}"
    )


def _name(loop: asyncio.AbstractEventLoop) -> str:
    return f"{id(loop):#x}{' (closed)' if loop.is_closed() else ''}"

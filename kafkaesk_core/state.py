"""What an application says of itself: whether it runs, how it does, what hinders it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .configuration import Configuration
from .errors import UnhealthyError
from .runtime import Runtime
from .shutdown import Shutdown
from .status import Health, Status

__all__ = ["State"]


class State(Configuration):
    """The part of an application that others may ask at any time."""

    _runtime: Runtime | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop it runs on, None while it does not; for plugins in other threads."""
        return None if self._runtime is None else self._runtime.loop

    @property
    def servers(self) -> Sequence[str]:
        """The brokers that were asked first, as "host:port"; empty while it does not run."""
        return () if self._runtime is None else self._runtime.servers

    @property
    def is_consuming(self) -> bool:
        """Whether consumers run, or are being started or stopped."""
        return self._runtime is not None and self._runtime.consumption is not None

    @property
    def shutdown(self) -> Shutdown | None:
        """The time that a stop of the running application may take; None while it does not run."""
        return None if self._runtime is None else self._runtime.shutdown

    def status(self) -> Status:
        """A snapshot that may be read by another thread, or be shown as JSON."""
        runtime = self._runtime
        return Status("stopped") if runtime is None else runtime.status()

    def health(self) -> Health:
        """Whether the application makes progress, is ready, and what hinders it."""
        runtime = self._runtime
        if runtime is None or not runtime.is_open:
            return Health(is_live=True, is_ready=False, reasons=("the application is not running",))
        return runtime.health()

    async def health_check(self) -> None:
        """Raise if the application should be restarted; a passing hindrance is not a reason.

        Raises:
            UnhealthyError: it makes no progress, with the reasons.
        """
        health = self.health()
        if not health.is_live:
            raise UnhealthyError(health.reasons)

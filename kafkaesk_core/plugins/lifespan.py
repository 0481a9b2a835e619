"""One plugin's lifespan: what it raises names the plugin."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from .chains import failed_in

__all__ = ["Lifespan"]

logger = logging.getLogger("kafkaesk.plugins")


class Lifespan(AbstractAsyncContextManager[None]):
    """Enters and leaves what a plugin's `lifespan` returned.

    `failure` is what it raised when it was left, or None.

    Raises:
        PluginError: it failed while it was entered. A failure while it is left is logged.
    """

    def __init__(self, plugin: str, inner: AbstractAsyncContextManager[None]) -> None:
        self.plugin = plugin
        self._inner = inner
        self.failure: Exception | None = None

    async def __aenter__(self) -> None:
        try:
            await self._inner.__aenter__()
        except Exception as error:
            doing = "while entering its lifespan"
            raise failed_in(self.plugin, "lifespan", error, doing) from error

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._inner.__aexit__(exc_type, exc, traceback)
        except Exception as error:
            self.failure = error
            logger.exception("plugin %r failed while leaving its lifespan", self.plugin)

"""kafkaesk 0.8 and this package share the import name `kafkaesk`: only one may be installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from kafkaesk_core import hookimpl

if TYPE_CHECKING:
    from kafkaesk_core import App

__all__ = ["RefuseOriginal", "check_original"]


def check_original() -> None:
    """Refuse to work beside the package with the same import name.

    Raises:
        ImportError: the distribution kafkaesk is installed; the error names the remedy.
    """
    try:
        found = version("kafkaesk")
    except PackageNotFoundError:
        return
    raise ImportError(
        f"kafkaesk {found} and kafkaesk-compat are both installed and share the import name "
        "kafkaesk; run: pip uninstall kafkaesk && pip install --force-reinstall kafkaesk-compat"
    )


class RefuseOriginal:
    """A plugin that refuses every start beside the original, even if that one wins the import."""

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Stop the start if the original is installed."""
        check_original()
        yield

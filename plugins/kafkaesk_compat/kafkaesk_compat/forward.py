"""Modules with the names of kafkaesk 0.8; each name warns and says what to import instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["forward"]

# Any below: what is forwarded is of any kind.


def forward(
    module: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a module; `names` maps each name to "module:name".

    A name is looked up every time, so Python's warning filters decide on repeated warnings.
    """

    def __getattr__(name: str) -> Any:  # it becomes the module's
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, attribute = names[name].partition(":")
        new = f"{home}.{attribute}"
        if home.startswith("kafkaesk_compat"):
            new = f"kafkaesk_core.{attribute}"
        text = f"{module}.{name} is a name of kafkaesk 0.8; use {new}"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(import_module(home), attribute)

    def __dir__() -> list[str]:
        return sorted(names)

    return __getattr__, __dir__

"""Finding the application that the command line names."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from importlib.metadata import entry_points
from typing import Any

import click

from .app import Application

__all__ = ["find_application"]

APPS = "kafkaesk.apps"


def find_application(name: str) -> Application:
    """Find an application by "module:attribute" or by its name in the entry points.

    Raises:
        click.UsageError: there is none, or what is there is no application.
    """
    target = name
    if ":" not in name:
        found = tuple(entry_points(group=APPS, name=name))
        if not found:
            known = ", ".join(sorted({ep.name for ep in entry_points(group=APPS)})) or "none"
            raise click.UsageError(
                f"no command and no application is called {name!r} (applications: {known}); "
                "write module:attribute, or name it in the entry-point group kafkaesk.apps"
            )
        target = found[0].value
    application = _attribute(target)
    is_factory = inspect.isroutine(application) or (
        inspect.isclass(application) and issubclass(application, Application)
    )
    if is_factory:
        application = application()
    if not isinstance(application, Application):
        raise click.UsageError(
            f"{target!r} is a {type(application).__name__}, not an Application of kafkaesk_core"
        )
    return application


def _attribute(target: str) -> Any:  # whatever the service's module holds
    module_name, _, path = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise click.UsageError(
            f"there is no module {module_name!r}, neither here nor installed"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise click.UsageError(f"module {module_name!r} has no attribute {path!r}")
        found = getattr(found, part)
    return found

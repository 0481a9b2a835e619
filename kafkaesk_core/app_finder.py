"""Finds the application that the command line names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import PurePath
from types import ModuleType, TracebackType
from typing import Any

from .application import Application
from .entry_points import APPS, COMMANDS, describe_rivals, find_entry_points
from .errors import ConfigurationError, KafkaeskError
from .official import COMMANDS_OF

__all__ = [
    "ApplicationImportError",
    "describe_error",
    "find_application",
    "find_place",
    "own_traceback",
]

OWN_WORDS = ("plugins", "run", "--help", "--version")
"""What `kafkaesk` itself takes in the place of an application's name."""
_MACHINERY = frozenset(
    {"importlib", "kafkaesk_core", "pluggy", "pydantic", "asyncio", "contextlib", *COMMANDS_OF}
)


class ApplicationImportError(ConfigurationError):
    """The service's code raised an error while it was imported; that error is the `__cause__`.

    An error of kafkaesk itself, such as a wrong option of `subscribe`, needs no traceback, and
    neither does an exit: the text names the line. Every other error keeps the service's part of the
    traceback.
    """

    def __init__(self, attempted: str, error: BaseException) -> None:
        self.needs_traceback = not isinstance(error, (KafkaeskError, SystemExit))
        text = str(error) if isinstance(error, KafkaeskError) else describe_error(error)
        super().__init__(f"{attempted} failed{find_place(error)}: {text}")
        self.__cause__ = error.with_traceback(own_traceback(error.__traceback__))


def find_application(name: str) -> Application:
    """Find an application by "module:attribute" or by its name in the entry points.

    Raises:
        ConfigurationError: the application was not found, or the object found is not an
            application.
        ApplicationImportError: its module, or the function that creates it, raised an error.
    """
    target = name if ":" in name else _installed_target(name)
    application = _attribute(target)
    is_factory = inspect.isroutine(application) or (
        inspect.isclass(application) and issubclass(application, Application)
    )
    if is_factory:
        application = _call(target, application)
    if inspect.iscoroutine(application):
        application.close()
        raise ConfigurationError(f"{target!r} is an 'async def' function; make it a plain 'def'")
    if not isinstance(application, Application):
        raise ConfigurationError(
            f"{target!r} is of type {type(application).__name__}, not an Application of "
            "kafkaesk_core, nor a function that returns one"
        )
    return application


def _installed_target(name: str) -> str:
    found = find_entry_points(APPS, name)
    if not found:
        raise ConfigurationError(_nothing_called(name))
    if rivals := describe_rivals(found):
        raise ConfigurationError(f"the application {name!r} {rivals}")
    return found[0].value


def _call(target: str, make: Callable[[], Any]) -> Any:  # whatever the service's function returns
    try:
        return make()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as in _import
        raise ApplicationImportError(f"calling {target}()", error) from error


def _nothing_called(name: str) -> str:
    module = _module_name(name)
    is_path = module != name
    _search_current_directory()
    if is_path or (name.isidentifier() and _exists(module)):
        return f"{name!r} is not an application; write module:attribute, as in {module}:app"
    known = sorted({one.name for one in find_entry_points(APPS)})
    words = {*known, *OWN_WORDS, *(one.name for one in find_entry_points(COMMANDS))}
    by_lower = {word.lower(): word for word in sorted(words)}
    close = get_close_matches(name.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[close[0]]!r}?" if close else ""
    return (
        f"no command and no application is called {name!r}{hint} "
        f"(applications: {', '.join(known) or 'none'}); "
        f"write module:attribute, or name it in the entry-point group {APPS}"
    )


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _module_name(path: str) -> str:
    """Convert a file's path, "./shop/main.py", to the name of its module, "shop.main"."""
    parts = PurePath(re.sub(r"\.py$", "", path)).parts
    if PurePath(path).is_absolute() or ".." in parts:
        parts = parts[-1:]
    return ".".join(parts).strip(". ")


def _attribute(target: str) -> Any:  # whatever the service's module holds
    module_name, _, path = target.partition(":")
    right = _module_name(module_name)
    if not module_name or not path or module_name != right:
        example = f"{right or 'shop'}:{path or 'app'}"
        raise ConfigurationError(
            f"{target!r} is not module:attribute, as Python imports them; write {example}"
        )
    found: Any = _import(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(_no_attribute(module_name, path, sys.modules.get(module_name)))
        found = getattr(found, part)
    return found


def _import(name: str) -> ModuleType:
    directory = _search_current_directory()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ApplicationImportError(f"importing {name}", error) from error
        raise ConfigurationError(
            f"there is no module {name!r}, neither in {directory} nor installed"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, for one: nothing would say that nothing runs
        raise ApplicationImportError(f"importing {name}", error) from error


def _search_current_directory() -> str:
    """Let imports look into the current directory first, and return its name for errors."""
    try:
        directory = os.getcwd()
    except OSError:
        return "the current directory, which no longer exists,"
    sys.path.insert(0, directory)
    return directory


def _no_attribute(name: str, path: str, module: ModuleType | None) -> str:
    attribute = path.removesuffix("()")
    if attribute != path:
        return f"{name}:{path} is not an attribute; write {name}:{attribute}, functions are called"
    place = getattr(module, "__file__", None)
    where = f" ({place})" if place else ""
    values = {} if module is None else vars(module)
    applications = [key for key, value in values.items() if isinstance(value, Application)]
    close = applications if len(applications) == 1 else get_close_matches(path, values, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"module {name!r}{where} has no attribute {path!r}{hint}"


# --- where the service's own code failed


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_machinery(trace: TracebackType) -> bool:
    name = str(trace.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in _MACHINERY or "importlib" in name


def own_traceback(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the service's first frame on; None if it has no such frame."""
    return next((found for found in _frames(trace) if not _is_machinery(found)), None)


def find_place(error: BaseException) -> str:
    """Return the last line of the service's code in the traceback, as " at shop.py:7"."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {PurePath(error.filename).name}:{error.lineno}"
    own = [found for found in _frames(error.__traceback__) if not _is_machinery(found)]
    if not own:
        return ""
    return f" at {PurePath(own[-1].tb_frame.f_code.co_filename).name}:{own[-1].tb_lineno}"


def describe_error(error: BaseException) -> str:
    """Return the class and the text of an error, without the notes that a traceback shows below."""
    kind = type(error)
    is_plain = kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{name}: {text}" if text else name

"""Shared parts of packages' commands: options that locate Kafka, and errors in one line.

`kafkaesk --help` imports the modules of all commands, so this module imports little.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from .application import Application
    from .settings import Settings

__all__ = [
    "cluster_options",
    "cluster_settings",
    "complete_app",
    "find_described",
    "parse_json_object",
    "reported_errors",
]

F = TypeVar("F", bound=Callable[..., Any])


def parse_json_object(
    ctx: click.Context | None, param: click.Parameter | None, text: str | None
) -> dict[str, Any] | None:
    """Parse an option that is a JSON object; a callback for click options."""
    name = "the value" if param is None else param.opts[0]
    try:
        parsed = None if text is None else json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{name} is not valid JSON: {error}", ctx) from error
    if parsed is not None and not isinstance(parsed, dict):
        raise click.UsageError(
            f"{name} is a JSON {type(parsed).__name__}; write an object, "
            """as in '{"client_id": "reader"}'""",
            ctx,
        )
    return parsed


_CLUSTER = (
    click.option(
        "--kafka-servers",
        envvar="KAFKAESK_KAFKA_SERVERS",
        show_envvar=True,
        help="Addresses as host:port, separated by commas.",
    ),
    click.option(
        "--kafka-settings",
        callback=parse_json_object,
        envvar="KAFKAESK_KAFKA_SETTINGS",
        show_envvar=True,
        help="Options of aiokafka's clients, as a JSON object.",
    ),
    click.option(
        "--topic-prefix",
        envvar="KAFKAESK_TOPIC_PREFIX",
        show_envvar=True,
        help="Prefix of every topic: topic = prefix + stream.",
    ),
)


def cluster_options(func: F) -> F:
    """Give a command the options that locate Kafka; `cluster_settings` takes their values."""
    for option in reversed(_CLUSTER):
        func = option(func)
    return func


def cluster_settings(app: Application | None, options: Mapping[str, Any]) -> Settings:
    """Return the settings of an application, if one is given, overridden by these options.

    Raises:
        ConfigurationError: an option is invalid, or it would start an empty broker in this process.
    """
    from .application import Application
    from .cluster import refuse_own_broker

    application = Application(entry_points=False) if app is None else app
    application.override(**options)
    refuse_own_broker(application.settings)
    return application.settings


_MAKES_APP = r"^(\w+)(?:\s*:[^=\n]+)?\s*=\s*(?:\w+\.)*Application\("
"""A line of Python that creates an application, as `app = kafkaesk_core.Application(`."""


def complete_app(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete an application's name, from installed packages and modules in this folder.

    For the `shell_complete` of a click argument. Nothing is imported.
    """
    import re
    from pathlib import Path

    from .entry_points import APPS, find_entry_points

    found = {one.name for one in find_entry_points(APPS)}
    for path in [*Path().glob("*.py"), *Path().glob("*/*.py")]:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        module = ".".join(path.with_suffix("").parts)
        found |= {f"{module}:{name}" for name in re.findall(_MAKES_APP, text, re.MULTILINE)}
    return sorted(name for name in found if name.startswith(incomplete))


def find_described(name: str) -> Application:
    """Find an application, load its plugins, and call their `declare` hooks.

    What the service prints meanwhile goes to standard error: a command's output is for its result.

    Raises:
        ConfigurationError: the application was not found, or a handler or schema is invalid.
        PluginError: a plugin cannot be loaded.
    """
    from .app_finder import find_application

    with redirect_stdout(sys.stderr):
        application = find_application(name)
        application.describe()
    return application


@contextmanager
def reported_errors() -> Iterator[None]:
    """Report an error in one line on standard error, and exit with its code.

    If the application cannot be imported, the traceback of the service's code is shown.
    """
    import logging

    from .errors import KafkaeskError

    client = logging.getLogger("aiokafka")
    level = client.level
    client.setLevel(logging.CRITICAL)  # the command tells what matters
    try:
        yield
    except KafkaeskError as error:
        if getattr(error, "needs_traceback", False) and error.__cause__ is not None:
            click.echo("".join(traceback.format_exception(error.__cause__)), err=True, nl=False)
        click.echo(f"kafkaesk: {error}", err=True)
        sys.exit(error.exit_code)
    finally:
        client.setLevel(level)

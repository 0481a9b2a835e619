"""The command `kafkaesk`: run an application, list plugins, and what plugins add."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from .app import Application
    from .plugin_info import PluginInfo

__all__ = ["main"]

F = TypeVar("F", bound=Callable[..., Any])
COMMANDS = "kafkaesk.commands"
APPS = "kafkaesk.apps"
EXIT_CODES = """\b
Exit codes:
  0  stopped by a signal, after finishing
  1  a handler failed
  2  wrong usage or configuration
  3  no broker could be used
  4  a plugin could not be loaded"""

# Imports of the library are inside functions: `--help` needs none of it.


class GroupedOption(click.Option):
    """An option with the heading it is listed under."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:  # click's own arguments
        super().__init__(*args, **kwargs)
        self.heading = heading


class RunCommand(click.Command):
    """Lists its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                heading = getattr(parameter, "heading", "Other")
                sections.setdefault(heading, []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


class Kafkaesk(click.Group):
    """Runs an application unless the first word is a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in `run` where no command is named."""
        own = ("--help", "-h", "--version")
        if args and args[0] not in own and self.get_command(ctx, args[0]) is None:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the core's commands and those of installed packages, which are not imported."""
        return sorted({*self.commands, *(ep.name for ep in entry_points(group=COMMANDS))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command by its name."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        for entry_point in entry_points(group=COMMANDS, name=cmd_name):
            command = entry_point.load()
            if not isinstance(command, click.Command):
                raise click.ClickException(
                    f"the entry point {entry_point.value!r} of {COMMANDS} is no click command"
                )
            return command
        return None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of `run`, which needs no name, and the commands."""
        with click.Context(run, info_name="run", parent=ctx) as run_ctx:
            run.format_options(run_ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, "an installed command")
                    if name not in self.commands
                    else (name, self.commands[name].get_short_help_str())
                    for name in self.list_commands(ctx)
                ]
            )


def _option(
    name: str,
    heading: str,
    text: str,
    **kwargs: Any,  # click's own
) -> Callable[[F], F]:
    variable = "KAFKAESK_" + name.split("/")[0].strip("-").replace("-", "_").upper()
    return click.option(
        name,
        cls=GroupedOption,
        heading=heading,
        help=text,
        envvar=variable,
        show_envvar=True,
        **kwargs,
    )


@click.group(
    cls=Kafkaesk, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES
)
@click.version_option(version("kafkaesk-core"), prog_name="kafkaesk")
def cli() -> None:
    r"""Run an application that publishes and consumes events with Kafka.

    \b
    kafkaesk APP [OPTIONS]     APP is module:attribute, or a name in the
                               entry-point group kafkaesk.apps
    kafkaesk COMMAND [ARGS]
    """


@cli.command(cls=RunCommand, epilog=EXIT_CODES)
@click.argument("app")
@_option("--kafka-servers", "Kafka", "Addresses as host:port, separated by commas.")
@_option("--kafka-settings", "Kafka", "Options of aiokafka's clients, as a JSON object.")
@_option("--topic-prefix", "Kafka", "Put before each stream's name to make the topic's.")
@_option(
    "--replication-factor",
    "Kafka",
    "Replicas of topics that are created.",
    type=int,
    show_default="min(brokers, 3)",
)
@_option(
    "--partitions", "Kafka", "Partitions of topics that are created.", type=int, show_default="7"
)
@_option("--kafka-api-version", "Kafka", "Kept for compatibility; versions are negotiated.")
@_option(
    "--auto-commit/--no-auto-commit",
    "Consuming",
    "Commit by itself what is handled.",
    default=None,
    show_default="on",
)
@_option(
    "--auto-commit-interval-ms",
    "Consuming",
    "Milliseconds between commits.",
    type=int,
    show_default="5000",
)
@_option(
    "--drain-timeout",
    "Consuming",
    "Seconds that handlers may take to finish.",
    type=float,
    show_default="15",
)
@_option(
    "--start-timeout",
    "Lifecycle",
    "Seconds to try to reach a broker.",
    type=float,
    show_default="30",
)
@_option(
    "--shutdown-timeout",
    "Lifecycle",
    "Seconds that stopping may take.",
    type=float,
    show_default="25",
)
@_option(
    "--log-level",
    "Logging",
    "debug, info, warning or error.",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
)
@_option(
    "--log-format",
    "Logging",
    "text, or json for one object per line.",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
)
def run(app: str, log_level: str, log_format: str, **overrides: Any) -> None:
    """Run an application until SIGTERM or SIGINT; then finish, commit, leave, and exit."""
    from .console import set_up_logging
    from .service import run as run_application

    set_up_logging(log_level, log_format)
    application = _load(app)
    if overrides["kafka_settings"] is not None:
        overrides["kafka_settings"] = _json_object(overrides["kafka_settings"])
    with _reported():
        application.override(**overrides)
        run_application(application)


@cli.command()
@click.argument("app", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--chain", is_flag=True, help="Also print each subscription's chain of layers.")
def plugins(app: str | None, as_json: bool, chain: bool) -> None:
    """List the installed plugins, and those of APP: active, disabled or failed, and why."""
    from .app import Application
    from .errors import PluginError

    application = _load(app) if app else Application()
    try:
        application.load_plugins()
        problem = None
    except PluginError as error:
        problem = error
    chains = application.chains() if chain else {}
    found = application.plugins.list()
    if as_json:
        listed = [asdict(info) for info in found]
        click.echo(json.dumps({"plugins": listed, "chains": chains}, indent=2))
    else:
        for line in _table(found):
            click.echo(line)
        for name, layers in chains.items():
            click.echo(f"{name}: {' > '.join(layers)}")
    if problem is not None:
        click.echo(f"kafkaesk: {problem}", err=True)
        sys.exit(problem.exit_code)


def _table(found: Sequence[PluginInfo]) -> Iterator[str]:
    """Rows in columns as wide as their widest entry."""
    rows = [("NAME", "VERSION", "FROM", "STATUS", "HOOKS", "")]
    for info in found:
        origin = f"{info.source} ({info.value})"
        hooks = ", ".join(info.hooks) or "-"
        rows.append((info.name, info.version, origin, info.status, hooks, info.reason))
    if len(rows) == 1:
        yield "no plugins are installed"
        return
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[5]]).rstrip()


def _load(name: str) -> Application:
    """Find an application by "module:attribute" or by its name in the entry points."""
    from .app import Application

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


def _json_object(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--kafka-settings is no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise click.UsageError(
            f"--kafka-settings is a JSON {type(parsed).__name__}; write an object, "
            """as in '{"security_protocol": "PLAINTEXT"}'"""
        )
    return parsed


@contextmanager
def _reported() -> Iterator[None]:
    """Say in one line what is wrong, and exit with its code."""
    from .errors import HandlerError, KafkaeskError

    try:
        yield
    except KafkaeskError as error:
        cause = error.__cause__ if isinstance(error, HandlerError) else None
        logging.getLogger("kafkaesk").error("%s", error, exc_info=cause)
        sys.exit(error.exit_code)


def main() -> None:
    """Run the command `kafkaesk`."""
    cli(prog_name="kafkaesk")

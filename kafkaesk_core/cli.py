"""The command `kafkaesk`: runs an application, lists plugins, includes their commands."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .command import complete_app, reported_errors
from .command_loading import CommandError, load_command
from .entry_points import APPS, COMMANDS, EntryPoint, find_entry_points
from .official import package_of_command

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from .application import Application
    from .plugin_price import Price

__all__ = ["main"]

HELP = """\b
Run an application that publishes and consumes events with Kafka.

\b
kafkaesk APP [OPTIONS]    APP is module:attribute, or a name in the
                          entry-point group kafkaesk.apps
kafkaesk COMMAND [ARGS]"""
EXIT_CODES = """\b
Exit codes:
  0  stopped by a signal, after finishing
  1  a handler failed
  2  wrong usage or configuration, or the application cannot be imported
  3  no broker could be used
  4  a plugin or a command could not be loaded, or a plugin failed at the start
  5  stopped, but a handler or thread did not end within shutdown_timeout"""

SETTING_OPTIONS = Path(__file__).with_name("setting_options.json")
_TYPES: dict[str | None, click.ParamType[Any]] = {"int": click.INT, "float": click.FLOAT}
"""The types that the command line checks itself; the settings check all other values."""

# --- the help

F = TypeVar("F", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option, with the heading under which the help lists it."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:  # click's own arguments
        super().__init__(*args, **kwargs)
        self.heading = heading


class RunCommand(click.Command):
    """A command whose help lists the options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading."""
        write_sections(self.get_params(ctx), ctx, formatter)


def write_sections(
    parameters: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options to the help, one section per heading."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        row = parameter.get_help_record(ctx)
        if row is not None and isinstance(parameter, click.Option):
            heading = getattr(parameter, "heading", "Other")
            sections.setdefault(heading, []).append(row)
    for heading, rows in sections.items():
        with formatter.section(heading):
            formatter.write_dl(rows)


class CommandGroup(click.Group):
    """A group of commands that inserts `run` unless the first word is a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `run` if no command is named."""
        own = ("--help", "-h", "--version")
        if args and args[0] not in own and self.get_command(ctx, args[0]) is None:
            self._refuse_command_of_missing_package(args[0])
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def _refuse_command_of_missing_package(self, name: str) -> None:
        package = package_of_command(name)
        if package is not None and not find_entry_points(APPS, name):
            raise click.UsageError(
                f"the command {name!r} is part of {package}, which is not installed: "
                f"pip install {package}"
            )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the core's commands and those of installed packages, without importing any."""
        return sorted({*self.commands, *(one.name for one in find_entry_points(COMMANDS))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command by its name."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        found = find_entry_points(COMMANDS, cmd_name)
        return load_command(found) if found else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands and applications: the word `run` may be omitted."""
        from click.shell_completion import CompletionItem

        application = self.commands["run"].params[0]
        return [
            *(CompletionItem(name, help=text) for name, text in self._short_helps(incomplete)),
            *click.Command.shell_complete(self, ctx, incomplete),
            *application.shell_complete(ctx, incomplete),
        ]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of `run`, the options of the group, and the commands."""
        unnamed = self.commands["run"]
        with click.Context(unnamed, info_name="run", parent=ctx) as run_ctx:
            write_sections(unnamed.params, run_ctx, formatter)  # without a --help of its own
        write_sections(self.get_params(ctx), ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(list(self._short_helps()))

    def _short_helps(self, start: str = "") -> Iterator[tuple[str, str]]:
        """Yield the commands that begin with `start`, each with its help or why it has none."""
        installed: dict[str, list[EntryPoint]] = {}
        for entry_point in find_entry_points(COMMANDS):  # once: it reads a file of each package
            installed.setdefault(entry_point.name, []).append(entry_point)
        for name in sorted({*self.commands, *installed}):
            if not name.startswith(start):
                continue
            try:
                command = self.commands.get(name) or load_command(installed[name])
                yield name, command.get_short_help_str(limit=60) or "(no description)"
            except CommandError as error:  # of another package: the help must not end with it
                yield name, error.reason


def option(
    name: str,
    heading: str,
    text: str,
    default_text: object = "",
    **kwargs: Any,  # click's own
) -> Callable[[F], F]:
    """Declare an option with its heading, its environment variable and its default.

    `default_text` only describes the default: a default of the option itself would take precedence
    over the environment.
    """
    variable = "KAFKAESK_" + name.split("/")[0].strip("-").replace("-", "_").upper()
    return click.option(
        name,
        cls=GroupedOption,
        heading=heading,
        help=f"{text} Default: {default_text}." if default_text else text,
        envvar=variable,
        show_envvar=True,
        **kwargs,
    )


def setting_options(func: F) -> F:
    """Give a command one option for each setting, under the setting's heading.

    The options are read from a file that `uv run docs` generates from the settings, because
    importing pydantic would take longer than all the rest of the help or of a completion.
    """
    for each in reversed(json.loads(SETTING_OPTIONS.read_bytes())):
        declare = option(
            each["flags"],
            each["heading"],
            each["help"],
            each["default"],
            default=None,
            type=_TYPES.get(each["type"]),
        )
        func = declare(func)
    return func


def parse_thresholds(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    """Parse the arguments of `gc.set_threshold`: three positive numbers, separated by commas."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        text = f"{value!r} is not three positive numbers; write 5000,20,20"
        raise click.BadParameter(text, ctx, param)
    first, second, third = map(int, parts)
    return first, second, third


# --- the commands


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog=EXIT_CODES,
)
@click.version_option(package_name="kafkaesk-core", prog_name="kafkaesk")
def cli() -> None:
    """The command `kafkaesk`."""


@cli.command(cls=RunCommand, epilog=EXIT_CODES, short_help="Run an application.")
@click.argument("app", shell_complete=complete_app)
@setting_options
@option(
    "--log-level",
    "Logging",
    "Lowest level to log.",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
)
@option(
    "--log-format",
    "Logging",
    "json writes one object per line.",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
)
@option(
    "--gc-thresholds",
    "Process",
    "Thresholds of Python's garbage collector, as in 5000,20,20: large batches of models are "
    "decoded faster with fewer collections.",
    "Python's own",
    metavar="N,N,N",
    callback=parse_thresholds,
)
def run(
    app: str,
    log_level: str,
    log_format: str,
    gc_thresholds: tuple[int, int, int] | None,
    **overrides: Any,  # of each setting's type
) -> None:
    """Run an application until SIGTERM or SIGINT; then finish, commit, and leave the groups."""
    from .app_finder import find_application
    from .process import run_until_exit

    _set_up_logging(log_level, log_format)
    if gc_thresholds is not None:
        gc.set_threshold(*gc_thresholds)
    if overrides["kafka_settings"] is not None:
        overrides["kafka_settings"] = _json_object(overrides["kafka_settings"])
    with _report_errors():
        application = find_application(app)
        application.override(**overrides)
        run_until_exit(application)


@cli.command(short_help="List plugins and the order in which they act.")
@click.argument("app", required=False, shell_complete=complete_app)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--chain", is_flag=True, help="Also print the layers around each handler.")
@click.option("--price", is_flag=True, help="Also time the hooks that are called per message.")
def plugins(app: str | None, as_json: bool, chain: bool, price: bool) -> None:
    """List the installed plugins and those of APP, with their states and the reasons."""
    # Standard output is for the list, not for what a plugin or the service prints.
    with _uncollected(), redirect_stdout(sys.stderr):
        from .errors import KafkaeskError
        from .plugin_tables import plugin_table, price_table
        from .plugins.installed import InstalledPlugins

        with reported_errors():
            # Importing an application would take longer than all the rest.
            application = _find_or_make(app) if app or price else None
            source = InstalledPlugins() if application is None else application
        try:
            source.load_plugins()
            problem = None
        except KafkaeskError as error:
            problem = error
    chains = source.chains() if chain else {}
    prices = _price(application) if application is not None and price else []
    found = source.plugins.list()
    if as_json:
        described = [asdict(info) for info in found]
        priced = [{**p._asdict(), "microseconds": round(p.microseconds, 3)} for p in prices]
        click.echo(json.dumps({"plugins": described, "chains": chains, "prices": priced}, indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in plugin_table(found, width):
            click.echo(line)
        for name, layers in chains.items():
            click.echo(f"{name}: {' > '.join(layers)}")
        for line in price_table(prices) if price else ():
            click.echo(line)
    if problem is not None:
        click.echo(f"kafkaesk: {problem}", err=True)
        sys.exit(problem.exit_code)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from what is imported, here and at the end of the process.

    Modules are not garbage, and looking through them takes a fifth of the command's time.
    """
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if is_enabled:
            gc.enable()


def _find_or_make(app: str | None) -> Application:
    from .app_finder import find_application
    from .application import Application

    return find_application(app) if app else Application()


def _price(application: Application) -> list[Price]:
    """Time the hooks of an application that is not started."""
    import asyncio

    from .plugin_price import price_plugins

    return asyncio.run(price_plugins(application.plugins, application.subscriptions, application))


def _json_object(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--kafka-settings is not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise click.UsageError(
            f"--kafka-settings is a JSON {type(parsed).__name__}; write an object, "
            """as in '{"security_protocol": "PLAINTEXT"}'"""
        )
    return parsed


@contextmanager
def _report_errors() -> Iterator[None]:
    """Log an error in one line and exit with its code; show tracebacks of the service's code."""
    from .errors import HandlerError, KafkaeskError, PluginError, ShutdownIncompleteError

    try:
        yield
    except ShutdownIncompleteError as error:
        from .process import exit_now

        logging.getLogger("kafkaesk").error("%s", error)
        exit_now(error.exit_code)  # the interpreter would wait for threads that still run
    except KafkaeskError as error:
        is_foreign = (
            isinstance(error, HandlerError)
            or (isinstance(error, PluginError) and error.hook is not None)
            or getattr(error, "needs_traceback", False)
        )
        cause = error.__cause__ if is_foreign else None
        is_ours = isinstance(cause, KafkaeskError) and not isinstance(error, HandlerError)
        shown = None if is_ours else cause
        if not getattr(error, "is_logged", False):
            logging.getLogger("kafkaesk").error("%s", error, exc_info=shown)
        sys.exit(error.exit_code)
    except SystemExit as error:
        from .app_finder import describe_error, find_place

        told = "the application ended the process%s: %s"
        logging.getLogger("kafkaesk").error(told, find_place(error), describe_error(error))
        raise
    except Exception as error:
        from .app_finder import own_traceback

        if getattr(error, "is_logged", False):
            sys.exit(1)
        # Usually an "initialize" handler: the frames that called it are not the service's.
        trace = own_traceback(error.__traceback__) or error.__traceback__
        logging.getLogger("kafkaesk").error(
            "the application failed: %s: %s",
            *(type(error).__name__, error),
            exc_info=(type(error), error, trace),
        )
        sys.exit(1)


# --- log lines: readable text, or one JSON object per line


class JsonFormatter(logging.Formatter):
    """One JSON object per record: timestamp (UTC), level, logger, message, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record as JSON."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "timestamp": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _set_up_logging(level: str, style: str) -> None:
    """Log to standard error; `style` is "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        logging.getLogger("aiokafka").setLevel(logging.WARNING)
        logging.getLogger("aiokafka").addFilter(_is_not_logged_by_core)


def _is_not_logged_by_core(record: logging.LogRecord) -> bool:
    # aiokafka logs each failed connection; the core logs once why, with the remedy.
    return not str(record.msg).startswith("Unable connect to")


def main() -> None:
    """Run the command `kafkaesk`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # texts and records may have any characters
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="kafkaesk")

"""The command `kafkaesk`: run an application, list plugins, and what plugins add."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from .commands import CommandGroup, RunCommand, option

if TYPE_CHECKING:
    from .plugins.info import PluginInfo

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
  4  a plugin could not be loaded, or failed while it was started
  5  stopped, but a handler or thread did not end within shutdown_timeout"""

# Imports of the library are inside functions: `--help` needs none of it.


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog=EXIT_CODES,
)
@click.version_option(version("kafkaesk-core"), prog_name="kafkaesk")
def cli() -> None:
    """The command `kafkaesk`."""


@cli.command(cls=RunCommand, epilog=EXIT_CODES, short_help="Run an application.")
@click.argument("app")
@option("--kafka-servers", "Kafka", "Brokers as host:port, separated by commas, or one URL.")
@option("--kafka-settings", "Kafka", "Options of aiokafka's clients, as a JSON object.")
@option("--kafka-api-version", "Kafka", "Accepted and ignored: the clients negotiate versions.")
@option("--topic-prefix", "Topics", "Prefix of every topic: topic = prefix + stream.")
@option(
    "--create-topics/--no-create-topics",
    "Topics",
    "Create missing topics.",
    default=None,
    default_text="on",
)
@option(
    "--replication-factor",
    "Topics",
    "Replicas of each topic that is created.",
    type=int,
    default_text="min(brokers, 3)",
)
@option(
    "--partitions", "Topics", "Partitions of each topic that is created.", type=int, default_text=7
)
@option(
    "--validate-published/--no-validate-published",
    "Publishing",
    "Validate model instances again when they are published.",
    default=None,
    default_text="on",
)
@option(
    "--delivery-timeout",
    "Publishing",
    "Seconds until an unacknowledged message counts as failed.",
    type=float,
    default_text=120,
)
@option(
    "--send-buffer-bytes",
    "Publishing",
    "Memory for messages that wait to be sent.",
    type=int,
    default_text="32 MiB",
)
@option(
    "--auto-commit/--no-auto-commit",
    "Consuming",
    "Commit handled records automatically.",
    default=None,
    default_text="on",
)
@option(
    "--auto-commit-interval-ms",
    "Consuming",
    "Milliseconds between commits.",
    type=int,
    default_text=5000,
)
@option(
    "--max-uncommitted",
    "Consuming",
    "Records of a partition that may be ahead of its commit.",
    type=int,
    default_text=10_000,
)
@option(
    "--max-record-age",
    "Consuming",
    "Seconds after which an unfinished record makes the application unhealthy.",
    type=float,
    default_text=300,
)
@option(
    "--fetch-buffer-bytes",
    "Consuming",
    "Memory for fetched records that wait to be handled.",
    type=int,
    default_text="32 MiB",
)
@option(
    "--start-timeout",
    "Lifecycle",
    "Seconds to try to reach a broker.",
    type=float,
    default_text=30,
)
@option(
    "--shutdown-timeout",
    "Lifecycle",
    "Seconds that a stop may take.",
    type=float,
    default_text=25,
)
@option(
    "--drain-timeout",
    "Lifecycle",
    "Seconds that running handlers have to finish in a handover or a stop.",
    type=float,
    default_text=15,
)
@option(
    "--cancel-grace",
    "Lifecycle",
    "Seconds that cancelled handlers have to end.",
    type=float,
    default_text=2,
)
@option(
    "--commit-timeout",
    "Lifecycle",
    "Seconds that a commit may take.",
    type=float,
    default_text=5,
)
@option(
    "--log-level",
    "Logging",
    "Lowest level that is logged.",
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
def run(app: str, log_level: str, log_format: str, **overrides: Any) -> None:
    """Run an application until SIGTERM or SIGINT; then finish, commit, leave, and exit."""
    from .app_finder import find_application
    from .console import set_up_logging
    from .process import run_until_exit

    set_up_logging(log_level, log_format)
    if overrides["kafka_settings"] is not None:
        overrides["kafka_settings"] = _json_object(overrides["kafka_settings"])
    with _reported():
        application = find_application(app)
        application.override(**overrides)
        run_until_exit(application)


@cli.command(short_help="List plugins and the order in which they act.")
@click.argument("app", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--chain", is_flag=True, help="Also print the layers around each handler.")
def plugins(app: str | None, as_json: bool, chain: bool) -> None:
    """List the installed plugins, and those of APP: active, disabled or failed, and why."""
    from .app_finder import find_application
    from .application import Application
    from .errors import PluginError

    with _reported():
        application = find_application(app) if app else Application()
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
def _reported() -> Iterator[None]:
    """Say in one line what is wrong, and exit with its code; of foreign code show the traceback."""
    from .errors import HandlerError, KafkaeskError, PluginError, ShutdownIncompleteError
    from .process import exit_now

    try:
        yield
    except ShutdownIncompleteError as error:
        logging.getLogger("kafkaesk").error("%s", error)
        exit_now(error.exit_code)  # the interpreter would wait for what still runs
    except KafkaeskError as error:
        is_foreign = (
            isinstance(error, HandlerError)
            or (isinstance(error, PluginError) and error.hook is not None)
            or getattr(error, "needs_traceback", False)
        )
        cause = error.__cause__ if is_foreign else None
        is_ours = isinstance(cause, KafkaeskError) and not isinstance(error, HandlerError)
        shown = None if is_ours else cause
        logging.getLogger("kafkaesk").error("%s", error, exc_info=shown)
        sys.exit(error.exit_code)
    except Exception as error:
        from .app_finder import own_traceback

        # An "initialize" handler, mostly: what called it is not the service's.
        trace = own_traceback(error.__traceback__) or error.__traceback__
        logging.getLogger("kafkaesk").error(
            "the application failed: %s: %s",
            *(type(error).__name__, error),
            exc_info=(type(error), error, trace),
        )
        sys.exit(1)


def main() -> None:
    """Run the command `kafkaesk`."""
    cli(prog_name="kafkaesk")

"""The command `kafkaesk schemas`; the module that does the work is imported when it runs."""

from __future__ import annotations

import sys
from typing import Any

import click

from kafkaesk_core.command import complete_app, reported_errors

__all__ = ["asyncapi", "schemas"]

FOLDER = "schemas"

# Any in this file: what click passes.
_DIRECTORY = click.option(
    "--dir",
    "folder",
    default=FOLDER,
    show_default=True,
    help="The folder of the frozen schemas.",
)


def _run(what: str, **options: Any) -> None:
    """Do the work; report errors in one line, with their exit code."""
    from . import work

    with reported_errors():
        sys.exit(work.run(what, **options))


@click.group(short_help="Freeze schemas, and check that versions understand each other.")
def schemas() -> None:
    """Manage contracts: the messages that each version of a schema writes and reads.

    APP is module:attribute or an application's name. No command needs a broker.
    """


@schemas.command(short_help="Write each version that is not frozen yet to a file.")
@click.argument("app", shell_complete=complete_app)
@_DIRECTORY
@click.option("--update-words", is_flag=True, help="Also renew descriptions and examples.")
def freeze(**options: Any) -> None:
    """Write schemas/Order-1.json for each version that has no file yet; keep these in git.

    A frozen version never changes: if a version differs from its file, nothing is written.
    """
    _run("freeze", **options)


@schemas.command(short_help="Check that versions are compatible.")
@click.argument("app", shell_complete=complete_app)
@_DIRECTORY
@click.option(
    "--against",
    metavar="DIR|git:REV",
    help="The frozen schemas to compare with: of another folder, or of a revision, as git:main.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github writes annotations of a workflow.",
)
@click.option("--allow-unknown", is_flag=True, help="Do not fail for unknown results.")
def check(**options: Any) -> None:
    """Compare each version with its frozen file, and with the versions before it.

    \b
    Exit codes:
      0  every version reads what it must
      2  a version does not, or may not; or wrong usage or configuration
    """  # noqa: D301 (click wants the character)
    _run("check", **options)


@schemas.command(short_help="Show contracts.")
@click.argument("app", shell_complete=complete_app)
@click.argument("keys", nargs=-1, metavar="[SCHEMA]...")
@click.option("--json", "as_json", is_flag=True, help="Print the contracts as they are frozen.")
def show(**options: Any) -> None:
    """Show what SCHEMA, such as Order:1, writes and reads; all schemas by default."""
    _run("show", **options)


@schemas.command(short_help="Show what differs between two versions.")
@click.argument("app", shell_complete=complete_app)
@click.argument("old")
@click.argument("new")
@_DIRECTORY
def diff(**options: Any) -> None:
    """Show the differences from OLD to NEW, as in Order:1 Order:2, and which version reads which.

    Versions that the application no longer has are read from their frozen files.
    """
    _run("diff", **options)


@schemas.command(short_help="Register each version in a schema registry.")
@click.argument("app", shell_complete=complete_app)
@click.option(
    "--registry-url",
    metavar="URL",
    help="The registry; by default the one of the setting registry_url.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only ask whether the registry would accept each version."
)
def register(**options: Any) -> None:
    """Register the schemas on the wire in a registry with Confluent's API.

    \b
    Exit codes:
      0  every version is registered, or would be
      1  the registry refuses one, or does not answer
      2  wrong usage or configuration
    """  # noqa: D301 (click wants the character)
    _run("register", **options)


@schemas.command(short_help="Write JSON Schemas for other languages.")
@click.argument("app", shell_complete=complete_app)
@click.option("--out", required=True, help="The folder to write to.")
def export(**options: Any) -> None:
    """Write the schemas on the wire as JSON Schema 2020-12, one file for each version."""
    _run("export", **options)


@click.command(short_help="Write the AsyncAPI document of an application.")
@click.argument("app", shell_complete=complete_app)
@click.option(
    "--format",
    "style",
    type=click.Choice(["yaml", "json", "html"]),
    default="yaml",
    show_default=True,
    help="The format; html is a page that needs no server and no network.",
)
@click.option(
    "--asyncapi",
    "version",
    type=click.Choice(["3.0", "3.1"]),
    default="3.0",
    show_default=True,
    help="The version of AsyncAPI.",
)
@click.option("--title", help="The title of the document; APP by default.")
def asyncapi(**options: Any) -> None:
    """Write an application's published and consumed messages as AsyncAPI to standard output.

    APP is module:attribute or an application's name. No broker is needed. A published stream is
    included if a schema or `app.publishes()` names it.
    """
    _run("asyncapi", **options)

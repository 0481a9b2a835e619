"""Loads the commands of installed packages."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .entry_points import Loadable, describe_rivals, load_entry_point, package_of

__all__ = ["CommandError", "load_command"]


class CommandError(click.ClickException):
    """A command of a package cannot be loaded; `reason` is the end of the message."""

    exit_code = 4

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject} {reason}")
        self.reason = reason


def load_command(found: Sequence[Loadable]) -> click.Command:
    """Import a command from the entry points with its name.

    Raises:
        CommandError: the package's code failed, the object is not a command, or several packages
            provide the command.
    """
    entry_point = found[0]
    if rivals := describe_rivals(found):
        raise CommandError(f"the command {entry_point.name!r}", rivals)
    package, version = package_of(entry_point)
    subject = f"the command {entry_point.name!r} of {package} {version} ({entry_point.value})"
    try:
        command = load_entry_point(entry_point)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, for one: the package's code ran
        reason = f"cannot be loaded: {type(error).__name__}: {error}; repair or uninstall {package}"
        raise CommandError(subject, reason) from error
    if not isinstance(command, click.Command):
        raise CommandError(subject, f"is of type {type(command).__name__}, not a click command")
    return command

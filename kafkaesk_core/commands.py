"""How the command `kafkaesk` looks: options under headings, and commands of other packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, TypeVar

import click

__all__ = ["CommandGroup", "RunCommand", "option"]

F = TypeVar("F", bound=Callable[..., Any])
COMMANDS = "kafkaesk.commands"


class GroupedOption(click.Option):
    """An option with the heading it is listed under."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:  # click's own arguments
        super().__init__(*args, **kwargs)
        self.heading = heading


class RunCommand(click.Command):
    """Lists its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading."""
        write_sections(self.get_params(ctx), ctx, formatter)


def write_sections(
    parameters: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write options in one section per heading."""
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
    """Runs an application unless the first word is a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in `run` where no command is named."""
        own = ("--help", "-h", "--version")
        if args and args[0] not in own and self.get_command(ctx, args[0]) is None:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the core's commands and those of installed packages, which are not imported."""
        return self._names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command by its name."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        for entry_point in entry_points(group=COMMANDS, name=cmd_name):
            command = entry_point.load()
            if not isinstance(command, click.Command):
                raise click.ClickException(
                    f"the entry point {entry_point.value!r} of {COMMANDS} is not a click command"
                )
            return command
        return None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of `run`, which needs no name, those of the group, and the commands."""
        unnamed = self.commands["run"]
        with click.Context(unnamed, info_name="run", parent=ctx) as run_ctx:
            write_sections(unnamed.params, run_ctx, formatter)  # without a --help of its own
        write_sections(self.get_params(ctx), ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(ctx, name)) for name in self._names()])

    def _names(self) -> list[str]:
        return sorted({*self.commands, *(ep.name for ep in entry_points(group=COMMANDS))})

    def _short_help(self, ctx: click.Context, name: str) -> str:
        try:
            command = self.get_command(ctx, name)
        except Exception as error:  # of another package: the help must not end with it
            return f"cannot be loaded: {type(error).__name__}: {error}"
        text = "" if command is None else command.get_short_help_str(limit=60)
        return text or "(it does not say what it does)"


def option(
    name: str,
    heading: str,
    text: str,
    default_text: object = "",
    **kwargs: Any,  # click's own
) -> Callable[[F], F]:
    """Declare an option, with its heading, its environment variable and what holds without it.

    `default_text` is the default of a lower layer: the option itself has none, or it would win.
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

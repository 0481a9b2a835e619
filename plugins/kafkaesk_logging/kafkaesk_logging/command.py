"""The command `kafkaesk logs`."""

from __future__ import annotations

import click

__all__ = ["logs"]


@click.command()
def logs() -> None:
    """Read the log lines of a stream."""

"""The packages that are released together with this one, and the commands of each."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["COMMANDS_OF", "package_of_command"]

COMMANDS_OF: Mapping[str, tuple[str, ...]] = {
    "kafkaesk_cloudevents": (),
    "kafkaesk_compat": (),
    "kafkaesk_dev": ("completion", "dev", "inspect", "new", "publish", "tail"),
    "kafkaesk_headers": (),
    "kafkaesk_logging": ("logs",),
    "kafkaesk_ops": ("deploy", "lag", "status"),
    "kafkaesk_otel": (),
    "kafkaesk_retry": ("dead",),
    "kafkaesk_schemas": ("asyncapi", "schemas"),
    "kafkaesk_testing": (),
}
"""The packages by import name."""


def package_of_command(name: str) -> str | None:
    """Return the package to install for a command; None if no official package has it."""
    for package, commands in COMMANDS_OF.items():
        if name in commands:
            return package.replace("_", "-")
    return None

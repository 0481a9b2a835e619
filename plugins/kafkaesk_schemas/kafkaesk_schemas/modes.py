"""The modes of compatibility, and the option of schemas that chooses one."""

from __future__ import annotations

from typing import Literal, get_args

from kafkaesk_core import ConfigurationError

__all__ = ["OPTION", "Mode", "check_mode"]

Mode = Literal[
    "backward",
    "forward",
    "full",
    "backward_transitive",
    "forward_transitive",
    "full_transitive",
    "none",
]
"""The required compatibility: with backward, new readers understand old writers; with forward, old
readers understand new writers."""
OPTION = "schemas"


def check_mode(value: object, schema: str) -> Mode:
    """Return the mode from a schema's option.

    Raises:
        ConfigurationError: the mode does not exist.
    """
    if isinstance(value, str) and value in get_args(Mode):
        return value  # type: ignore[return-value]  # one of them
    raise ConfigurationError(
        f"schema {schema} has the option 'schemas': {value!r}; use one of "
        f"{', '.join(get_args(Mode))}"
    )

"""The reader of environment variables, for the settings of the core and of every plugin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from .errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["PREFIX", "describe_problems", "read_environment", "read_model"]

PREFIX = "KAFKAESK_"


def read_environment(
    fields: Mapping[str, FieldInfo], prefix: str, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:  # values of settings
    """Return the values of the variables "<prefix><FIELD>" that are set, by field name.

    Values are not validated here: most are text, which pydantic converts later. A list is JSON, or
    text separated by commas; an object is JSON. `environ` defaults to that of the process.

    Raises:
        ValueError: a variable is not valid JSON; the error names the variable, but not its value.
    """
    variables = os.environ if environ is None else environ
    if {f"{prefix}{name}".upper() for name in fields}.isdisjoint(map(str.upper, variables)):
        return {}  # as for most plugins; importing pydantic-settings takes time
    from .environment_source import read_source

    return read_source(fields, prefix, variables)


def read_model(model: type[BaseModel]) -> dict[str, Any]:  # values of settings
    """Return the values of the process's KAFKAESK_ variables for a model's fields, validated.

    Raises:
        ConfigurationError: a value is wrong; the error names the variable.
    """
    return deepcopy(_read(model, _variables_of(model)))


def _variables_of(model: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    """Return the process's variables for a model's fields, as they are now."""
    names = {f"{PREFIX}{name}".upper() for name in model.model_fields}
    return tuple((name, os.environ[name]) for name in os.environ if name.upper() in names)


@lru_cache(maxsize=16)  # `app.settings` reads them each time, and that takes milliseconds
def _read(model: type[BaseModel], variables: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    try:
        values = read_environment(model.model_fields, PREFIX, dict(variables))
        return model(**values).model_dump(include=set(values))
    except ValidationError as error:
        problem = describe_problems(error, model, PREFIX)
    except ValueError as error:
        problem = str(error)
    raise ConfigurationError(f"wrong environment variable: {problem}")


def describe_problems(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Return a description of the wrong settings; with a prefix, by the names of variables."""
    problems = []
    for problem in error.errors(include_url=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            from difflib import get_close_matches

            close = get_close_matches(name, model.model_fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"there is no setting {name!r}{hint}")
            continue
        # A value in kafka_settings may be secret.
        value = "" if name.startswith("kafka_settings") else f", got {problem['input']!r}"
        shown = prefix + name.upper() if prefix else name
        text = problem["msg"].replace("Input should be", "must be").partition(", unable to")[0]
        problems.append(f"{shown} {text}{value}")
    return "; ".join(problems)

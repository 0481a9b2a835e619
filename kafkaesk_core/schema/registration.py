"""One version of a schema, as a service declares it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from kafkaesk_core.errors import InvalidSchemaError

__all__ = ["SchemaRegistration"]

Document = Mapping[str, Any]  # a JSON Schema: any JSON


@dataclass(frozen=True, slots=True, eq=False)
class SchemaRegistration:
    """One version of a schema: a pydantic model or a JSON Schema document.

    `retention` is in seconds. `streams` are the streams whose topics are created at start.
    `declared_in` is where: "module.Model" or "module:line"; found out if not given.

    Raises:
        InvalidSchemaError: a value cannot work.
    """

    id: str
    version: int = 1
    model: type[BaseModel] | None = None
    document: Document | None = None
    retention: int | None = None
    streams: Sequence[str] = ()
    partitions: int | None = field(default=None, kw_only=True)
    replication_factor: int | None = field(default=None, kw_only=True)
    declared_in: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise InvalidSchemaError(f"schema {self.id!r}: {problem}", schema=str(self.id))
        object.__setattr__(self, "streams", tuple(self.streams))
        object.__setattr__(self, "declared_in", self.declared_in or _place(self.model))

    @property
    def key(self) -> str:
        """The name on the wire: "Content:1"."""
        return f"{self.id}:{self.version}"

    def differences(self, other: SchemaRegistration) -> list[str]:
        """Return the names of the fields in which the two declarations differ."""
        names = ("model", "document", "retention", "streams", "partitions", "replication_factor")
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def _problems(self) -> list[str]:
        model, document = self.model, self.document
        checks = (
            (
                isinstance(self.id, str) and self.id and ":" not in self.id,
                "the id must be a name without ':', the version is given on its own",
            ),
            (_is_count(self.version), f"version must be 1 or greater, got {self.version!r}"),
            (
                (model is None) != (document is None),
                "give a pydantic model or a JSON Schema document, one of them",
            ),
            (
                model is None or _is_model(model),
                f"{model!r} is not a pydantic model; derive it from pydantic.BaseModel",
            ),
            (
                document is None or isinstance(document, Mapping),
                f"a JSON Schema document is a dict, not {type(document).__name__}",
            ),
            (
                _are_names(self.streams),
                f"streams must be a list of names, got {self.streams!r}",
            ),
            *(
                (
                    value is None or _is_count(value),
                    f"{name} must be 1 or greater, or None, got {value!r}",
                )
                for name in ("retention", "partitions", "replication_factor")
                for value in (getattr(self, name),)
            ),
        )
        return [problem for holds, problem in checks if not holds]


def _are_names(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    return all(isinstance(name, str) and name for name in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_model(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseModel) and value is not BaseModel


def _place(model: type[BaseModel] | None) -> str:
    """Say where a model is defined, or else who declares: the first frame outside this package."""
    if model is not None:
        return f"{model.__module__}.{model.__qualname__}"
    package, frame = __name__.partition(".")[0], inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno}" if frame else "?"

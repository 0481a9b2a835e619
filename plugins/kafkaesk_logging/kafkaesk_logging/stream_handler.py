"""Log lines on a terminal or in a file, with the models of the log call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from copy import copy
from typing import Any

from pydantic import BaseModel

from .record_factory import install_record_factory, uninstall_record_factory

__all__ = ["PydanticStreamHandler"]


# Any below: typeshed's StreamHandler is generic, the standard library's takes any stream.
class PydanticStreamHandler(logging.StreamHandler[Any]):
    """A `logging.StreamHandler` that writes the models' fields after the message.

    A field that begins within the first `max_length` characters is written in full; an ellipsis
    stands for the other fields.
    """

    def __init__(self, stream: Any = None, *, max_length: int = 256) -> None:
        super().__init__(stream)
        self._max_length = max_length
        self._is_open = True
        install_record_factory()

    def format(self, record: logging.LogRecord) -> str:
        """Format a copy of the record, with the fields in its message."""
        models = getattr(record, "pydantic_data", ())
        if not models:
            return super().format(record)
        copied = copy(record)
        message = record.getMessage()
        fields = self._fields(models)
        copied.msg, copied.args = (f"{message}: {fields}" if message else fields), None
        return super().format(copied)

    def close(self) -> None:
        """Close the handler; the last handler that needs the record factory removes the factory."""
        if self._is_open:
            self._is_open = False
            uninstall_record_factory()
        super().close()

    def _fields(self, models: Any) -> str:
        written: list[str] = []
        length = 0
        for model in models:
            for name, value in _shown_fields(model):
                if length > self._max_length:
                    return ", ".join([*written, "..."])
                written.append(f"{name}={value}")
                length += len(written[-1]) + 2
        return ", ".join(written)


def _shown_fields(model: BaseModel) -> Iterator[tuple[str, object]]:
    for name, field in type(model).model_fields.items():
        if field.repr and not field.exclude and hasattr(model, name):
            yield name, getattr(model, name)
    yield from (model.model_extra or {}).items()

"""The formats of messages on the wire: of their schema, or of a plugin's codec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kafkaesk_core import Application

__all__ = ["Form", "Forms", "name_of"]


class Form(NamedTuple):
    """A codec's format; `said` has fields of an AsyncAPI message, {} if unknown."""

    name: str
    said: Mapping[str, Any]  # any JSON


class Forms:
    """The messages of an application: one per schema and format of its streams."""

    def __init__(self, app: Application, streams: Iterable[Mapping[str, Any]]) -> None:
        self._schemas = app.schemas
        self._find = app.plugins.codec
        self.messages: dict[str, tuple[str, Form | None]] = {}
        """By message name: the schema's key, and the format unless it is the schema's own."""
        named: set[str] = set()
        for stream in streams:
            for key in self.known(stream["schemas"]):
                form = self._form_on(stream["stream"], key)
                self.messages[_message_name(key, form)] = (key, form)
                named.add(key)
        for key in self._schemas.keys() - named:
            self.messages[name_of(key)] = (key, None)

    def known(self, keys: Iterable[str]) -> list[str]:
        """The schemas that the service registers itself."""
        return [key for key in keys if key in self._schemas]

    def names_on(self, stream: str, keys: Iterable[str]) -> list[str]:
        """Return the message names of schemas on a stream: "Order_1", "Order_1.CloudEvents"."""
        return [_message_name(key, self._form_on(stream, key)) for key in self.known(keys)]

    def _form_on(self, stream: str, key: str) -> Form | None:
        schema = self._schemas[key]
        codec = self._find(stream, schema) if self._find and schema.envelope else None
        if codec is None:
            return None
        describe = getattr(codec, "describe", None)
        name = getattr(codec, "form", type(codec).__name__)
        return Form(str(name), dict(describe(schema)) if describe is not None else {})


def _message_name(key: str, form: Form | None) -> str:
    return name_of(key) if form is None else f"{name_of(key)}.{name_of(form.name)}"


def name_of(text: str) -> str:
    """Return a name that AsyncAPI allows for channels, messages and operations."""
    return re.sub(r"[^a-zA-Z0-9._-]", "_", text)

"""The types of events, and their schemas."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kafkaesk_core import ConfigurationError

if TYPE_CHECKING:
    from kafkaesk_core import SchemaRegistration

__all__ = ["OPTION", "TypeNames", "TypeTemplate"]

OPTION = "cloudevents"
"""The option of a schema that gives its type."""

_FIELDS = {"{name}": "(?P<name>[^:]+)", "{version}": "(?P<version>[1-9][0-9]{0,8})"}


class TypeTemplate:
    """Makes the type of a schema from its name and version, and parses both from a type.

    Raises:
        ValueError: the template must have both fields once, with text between them.
    """

    def __init__(self, text: str) -> None:
        parts = re.split(r"(\{name\}|\{version\})", text)
        if sorted(part for part in parts if part in _FIELDS) != sorted(_FIELDS) or not parts[2]:
            raise ValueError(
                f"type is {text!r}; write {{name}} and {{version}} once, with text between, as in "
                "com.example.{name}.v{version}"
            )
        self._text = text
        self._regex = re.compile("".join(_FIELDS.get(part) or re.escape(part) for part in parts))

    def type_of(self, schema: SchemaRegistration) -> str:
        """Return the type of a schema."""
        return self._text.replace("{name}", schema.id).replace("{version}", str(schema.version))

    def key_of(self, kind: str) -> str | None:
        """Return the schema of a type, as "Order:1", or None."""
        found = self._regex.fullmatch(kind)
        return f"{found['name']}:{found['version']}" if found else None


class TypeNames:
    """The types of the application's schemas, from their options or from the template."""

    def __init__(self, template: TypeTemplate) -> None:
        self._template = template
        self._keys: dict[str, str] = {}

    def note(self, schema: SchemaRegistration) -> None:
        """Note the type of a schema, unless another schema has it."""
        self._keys.setdefault(self.type_of(schema), schema.key)

    def check(self, schema: SchemaRegistration) -> None:
        """Check that a type stands for exactly one schema.

        Raises:
            ConfigurationError: the schema's option is not a type, or another schema has the same
                type.
        """
        kind = schema.options.get(OPTION)
        if OPTION in schema.options and not (isinstance(kind, str) and kind):
            raise ConfigurationError(
                f"schema {schema.key} has the option {OPTION!r}: {kind!r}; give the type of its "
                f"events, as in options={{{OPTION!r}: 'com.example.order.placed'}}"
            )
        self.note(schema)
        other = self._keys[self.type_of(schema)]
        if other != schema.key:
            raise ConfigurationError(
                f"{other} and {schema.key} have one CloudEvents type, {self.type_of(schema)!r}, "
                f"and no reader tells them apart; give each its own: options={{{OPTION!r}: ...}}"
            )

    def type_of(self, schema: SchemaRegistration) -> str:
        """Return the type of a schema."""
        kind = schema.options.get(OPTION)
        return kind if isinstance(kind, str) else self._template.type_of(schema)

    def key_of(self, kind: str) -> str | None:
        """Return the schema of a type, as "Order:1"; None if no schema has it."""
        return self._keys.get(kind) or self._template.key_of(kind)

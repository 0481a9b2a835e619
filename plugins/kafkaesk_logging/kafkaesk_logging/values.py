"""Values on their way into a line: shown when nothing else can be done with them, or hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["Redaction", "shown"]

# Any below: values of any type.
_LONGEST_SHOWN = 1000
_STARS = "**********"
_KNOWN_NAMES = 10_000
_DEEPEST = 50
_NESTED = frozenset({dict, list})


def shown(value: object, show: Callable[[Any], str] = repr) -> str:
    """Return a value as text, cut if long; whatever its own code does."""
    try:
        text = show(value)
    except Exception as error:  # the value's code
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


class Redaction:
    """Replaces the values of fields with certain names, also in nested objects, by stars."""

    def __init__(self, names: Iterable[str]) -> None:
        self._hidden = frozenset(name.lower() for name in names)
        self._harmless: set[str] = set()

    def is_harmless(self, fields: Mapping[str, Any]) -> bool:
        """Whether nothing of these fields is to be hidden; False also if that is not known yet."""
        if not self._harmless.issuperset(fields):
            return False
        for value in fields.values():
            kind = type(value)
            if kind is dict or (kind is list and not _NESTED.isdisjoint(map(type, value))):
                return False
        return True

    def apply(self, name: str, value: Any) -> Any:
        """Return the value, or what is to be shown in its stead."""
        return _STARS if self._is_hidden(name) else self._nested(value, ())

    def _is_hidden(self, name: str) -> bool:
        if name.lower() in self._hidden:
            return True
        if len(self._harmless) < _KNOWN_NAMES and name[:1] != "_" and name != "extra":
            self._harmless.add(name)
        return False

    def _nested(self, value: Any, around: tuple[int, ...]) -> Any:
        if not isinstance(value, (Mapping, list)):
            return value
        if id(value) in around or len(around) >= _DEEPEST:
            return shown(value)
        around = (*around, id(value))
        if isinstance(value, list):
            return [self._nested(inner, around) for inner in value]
        return {
            key: _STARS if self._is_hidden(str(key)) else self._nested(inner, around)
            for key, inner in value.items()
        }

"""Context in headers: extracted and injected by the configured propagator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.textmap import Getter, Setter

from kafkaesk_core import Header

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator

    from kafkaesk_core.plugin import CountedFailures

__all__ = ["Propagation"]

Carrier = Mapping[str, bytes | None]


class Propagation:
    """The given propagator, or the global one (OTEL_PROPAGATORS), with its errors caught.

    If a header occurs several times, the last one counts, as in Java. No header value and no
    propagator can cause an exception outside.
    """

    def __init__(self, failures: CountedFailures, given: TextMapPropagator | None = None) -> None:
        self._failures = failures
        self._given = given
        self._known: TextMapPropagator | None = None
        self._fields: frozenset[str] = frozenset()
        self._getter = _LastValue(failures)

    @property
    def fields(self) -> frozenset[str]:
        """The names of the headers that the propagator writes."""
        self._textmap()
        return self._fields

    def _textmap(self) -> TextMapPropagator:
        textmap = self._given or get_global_textmap()
        if textmap is not self._known:
            self._known = textmap
            try:
                self._fields = frozenset(textmap.fields)
            except Exception as error:
                self._fields = frozenset()
                self._failures.note("asking the propagator for its fields", error)
        return textmap

    def extract(self, headers: Sequence[Header], context: Context) -> Context:
        """Return `context` with the headers' context; the same object if the headers have none."""
        textmap = self._textmap()
        carrier = dict(headers)
        if self._fields.isdisjoint(carrier):
            return context
        try:
            extracted = textmap.extract(carrier, context, self._getter)
        except Exception as error:
            self._failures.note("extracting a context", error)
            return context
        if extracted is context:
            self._failures.note("reading a malformed trace header")
        return extracted

    def inject(self, headers: list[Header], context: Context, keep: Collection[str] = ()) -> None:
        """Write `context` into the headers; replace existing ones except for the names to keep."""
        try:
            self._textmap().inject(headers, context, _Replacing(keep) if keep else REPLACING)
        except Exception as error:
            self._failures.note("injecting a context", error)


class _LastValue(Getter[Carrier]):
    """Reads a dictionary of headers, without values that are not UTF-8 text."""

    def __init__(self, failures: CountedFailures) -> None:
        self._failures = failures

    def get(self, carrier: Carrier, key: str) -> list[str] | None:
        value = carrier.get(key)
        if value is None:
            return None
        try:
            return [value.decode()]
        except UnicodeDecodeError as error:
            self._failures.note(f"decoding the header {key}", error)
            return None

    def keys(self, carrier: Carrier) -> list[str]:
        return list(carrier)


class _Replacing(Setter[list[Header]]):
    """Writes a header, replacing all headers of the same name."""

    def __init__(self, keep: Collection[str] = ()) -> None:
        self._keep = keep

    def set(self, carrier: list[Header], key: str, value: str) -> None:
        if key in self._keep:
            return
        if carrier and any(name == key for name, _ in carrier):
            carrier[:] = [header for header in carrier if header[0] != key]
        carrier.append((key, value.encode()))


REPLACING = _Replacing()

"""The sources of inherited headers: the handler, and the blocks that a service opens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from kafkaesk_core import Header, IncomingMessage
from kafkaesk_core.plugin import copy_headers

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

__all__ = [
    "PROPAGATION",
    "HeaderSelector",
    "Origin",
    "PropagationContext",
    "current_record",
    "inherit_from",
    "inherited_headers",
    "no_propagation",
    "override",
    "propagating",
]


class Origin(Protocol):
    """A record to inherit headers from: an IncomingMessage or a ConsumerRecord."""

    @property
    def topic(self) -> str:
        """The topic's name, with the prefix."""

    @property
    def partition(self) -> int:
        """The partition's number."""

    @property
    def offset(self) -> int:
        """The record's offset in its partition."""

    @property
    def headers(self) -> Sequence[Header]:
        """The record's headers, in their order."""


HeaderSelector = Callable[[Sequence[Origin]], Sequence[Header]]
"""Chooses the headers that a message inherits from these records."""


@dataclass(slots=True)
class PropagationContext:
    """The value of the context variable; immutable, so each block makes a new one.

    `origins` are the handler's messages (with `scope="context"`), and `select` chooses from their
    headers. `chosen` is the record given to `inherit_from`; `added` are the headers of
    `propagating`. If `is_on` is false, nothing is inherited.
    """

    origins: Sequence[Origin] = ()
    select: HeaderSelector | None = None
    chosen: Origin | None = None
    added: tuple[Header, ...] = ()
    is_on: bool = True

    def sources(self, origins: Sequence[Origin]) -> Sequence[Origin]:
        """Return the records to inherit from; `origins` are the message's own origins."""
        if self.chosen is not None:
            return (self.chosen,)
        return origins or self.origins


PROPAGATION: ContextVar[PropagationContext | None] = ContextVar("kafkaesk_headers", default=None)


def override(headers: Sequence[Header], others: Sequence[Header]) -> Sequence[Header]:
    """Return the headers with `others` at the end; these replace headers of the same names."""
    if not others:
        return headers
    names = {name for name, _ in others}
    return [*(header for header in headers if header[0] not in names), *others]


def _current() -> PropagationContext:
    return PROPAGATION.get() or PropagationContext()


@contextmanager
def _entered(context: PropagationContext) -> Iterator[None]:
    token = PROPAGATION.set(context)
    try:
        yield
    finally:
        PROPAGATION.reset(token)


@contextmanager
def no_propagation() -> Iterator[None]:
    """Let messages published in this block, and in tasks started in it, inherit no headers."""
    with _entered(replace(_current(), is_on=False)):
        yield


@contextmanager
def propagating(headers: Mapping[str, bytes | None] | Iterable[Header]) -> Iterator[None]:
    """Add these headers to every message published in this block, inside a handler or not.

    They replace inherited headers of the same names, including those of an outer block.

    Raises:
        TypeError: a name is not text, or a value is neither bytes nor None.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    own = copy_headers(pairs)
    outer = _current()
    with _entered(replace(outer, added=tuple(override(outer.added, own)))):
        yield


@contextmanager
def inherit_from(origin: Origin) -> Iterator[None]:
    """Inherit the headers of this record or message, for example one message of a batch.

    Raises:
        TypeError: the argument is neither a ConsumerRecord nor an IncomingMessage.
    """
    if not isinstance(origin, IncomingMessage) and not _is_record(origin):
        raise TypeError(
            f"inherit_from({origin!r}) needs a ConsumerRecord, or one of subscriber.messages"
        )
    with _entered(replace(_current(), chosen=origin, is_on=True)):
        yield


def _is_record(origin: object) -> bool:
    from aiokafka.structs import ConsumerRecord

    return isinstance(origin, ConsumerRecord)


def current_record() -> ConsumerRecord | None:
    """Return the record whose headers are inherited here; None unless there is exactly one.

    With `scope="context"` it is the handler's record; otherwise the one given to `inherit_from`.
    """
    sources = _current().sources(())
    origin = sources[0] if len(sources) == 1 else None
    return origin.record if isinstance(origin, IncomingMessage) else origin


def inherited_headers() -> tuple[Header, ...]:
    """Return the headers that a publish inherits here, besides those of `subscriber.publish`."""
    context = _current()
    if not context.is_on:
        return ()
    sources = context.sources(())
    inherited = context.select(sources) if context.select is not None and sources else ()
    return tuple(override(inherited, context.added))

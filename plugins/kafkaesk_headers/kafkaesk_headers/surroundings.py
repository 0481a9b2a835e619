"""What surrounds a publish: the handler it is in, and the blocks that a service has opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Header, IncomingMessage
from kafkaesk_core.plugin import copy_headers

__all__ = [
    "SURROUNDINGS",
    "Origin",
    "Rule",
    "Surroundings",
    "current_record",
    "inherit_from",
    "inherited_headers",
    "no_propagation",
    "propagating",
]


class Origin(Protocol):
    """What headers come from: an IncomingMessage or a ConsumerRecord."""

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


Rule = Callable[[Sequence[Origin]], Sequence[Header]]
"""What is handed on of the headers of these."""


@dataclass(slots=True)
class Surroundings:
    """Never changed once it is in the context variable: a block makes another one.

    `origins` are the messages of the handler (`scope="context"`), of which `rule` says what is
    handed on; `chosen` is the one that a service picked, `added` what it adds; `is_on` is false
    where nothing shall be handed on.
    """

    origins: Sequence[Origin] = ()
    rule: Rule | None = None
    chosen: Origin | None = None
    added: tuple[Header, ...] = ()
    is_on: bool = True


SURROUNDINGS: ContextVar[Surroundings | None] = ContextVar("kafkaesk_headers", default=None)


def _surroundings() -> Surroundings:
    return SURROUNDINGS.get() or Surroundings()


@contextmanager
def _inside(surroundings: Surroundings) -> Iterator[None]:
    token = SURROUNDINGS.set(surroundings)
    try:
        yield
    finally:
        SURROUNDINGS.reset(token)


@contextmanager
def no_propagation() -> Iterator[None]:
    """Hand no headers on in this block, nor in tasks that are started in it."""
    with _inside(replace(_surroundings(), is_on=False)):
        yield


@contextmanager
def propagating(headers: Mapping[str, bytes | None] | Iterable[Header]) -> Iterator[None]:
    """Add these headers to all that is published in this block, by whomever it is opened.

    They replace inherited ones of the same name, and those of a block around this one.

    Raises:
        TypeError: a name is not text, or a value neither bytes nor None.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    own = copy_headers(pairs)
    names = {name for name, _ in own}
    before = _surroundings()
    outer = tuple(header for header in before.added if header[0] not in names)
    with _inside(replace(before, added=(*outer, *own))):
        yield


@contextmanager
def inherit_from(origin: Origin) -> Iterator[None]:
    """Hand on the headers of this record or message: of one of a batch, say.

    Raises:
        TypeError: it is neither a ConsumerRecord nor an IncomingMessage.
    """
    if not isinstance(origin, (IncomingMessage, ConsumerRecord)):
        raise TypeError(
            f"inherit_from({origin!r}) needs a ConsumerRecord, or one of subscriber.messages"
        )
    with _inside(replace(_surroundings(), chosen=origin, is_on=True)):
        yield


def current_record() -> ConsumerRecord | None:
    """Return the record whose headers are handed on here; None if there is not exactly one.

    In a handler that is its record with `scope="context"`; else what `inherit_from` chose.
    """
    here = _surroundings()
    origin = here.chosen
    if origin is None and len(here.origins) == 1:
        origin = here.origins[0]
    return origin.record if isinstance(origin, IncomingMessage) else origin


def inherited_headers() -> tuple[Header, ...]:
    """Return what a publish here is given, beside what `subscriber.publish` adds by itself."""
    here = _surroundings()
    if not here.is_on:
        return ()
    origins = here.origins if here.chosen is None else (here.chosen,)
    names = {name for name, _ in here.added}
    inherited = here.rule(origins) if here.rule is not None and origins else ()
    return (*(header for header in inherited if header[0] not in names), *here.added)

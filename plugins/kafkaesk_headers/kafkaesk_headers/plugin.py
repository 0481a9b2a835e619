"""The plugin: hands headers of consumed records on to what is published on their behalf."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kafkaesk_core import (
    App,
    ConsumeBatchCall,
    ConsumeCall,
    Delivery,
    Header,
    IncomingMessage,
    OutgoingMessage,
    PublishCall,
    hookimpl,
)
from kafkaesk_core.plugin import CountedFailures

from .dropping import is_dropped
from .lineage import CAUSATION, CORRELATION, HOPS, HopLimitError, Lineage
from .selection import DENIED, Selection
from .surroundings import SURROUNDINGS, Origin, Rule, Surroundings

__all__ = ["HeaderPropagation", "HeaderSettings"]

logger = logging.getLogger("kafkaesk.headers")

MERGED = "kafkaesk-headers"
WARNING_PAUSE = 60.0
OWN = frozenset((HOPS, CORRELATION, CAUSATION))
Count = Annotated[int, Field(ge=0)]
Patterns = tuple[Annotated[str, Field(min_length=1)], ...]


class HeaderSettings(BaseModel):
    """Settings of the plugin, from the environment as KAFKAESK_HEADERS_<NAME>."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: Literal["subscriber", "context"] = "subscriber"
    include: Patterns = ("*",)
    exclude: Patterns = DENIED
    max_bytes: Count = 16_384
    max_count: Count = 100
    max_hops: Annotated[int, Field(gt=0)] | None = None
    correlation: bool = False
    batch: Literal["common", "none"] = "common"


class HeaderPropagation:
    """Hands headers on, from what a handler was given to what it publishes.

    With `scope="subscriber"` only `subscriber.publish` does so, and nothing is wrapped around
    handlers; with `scope="context"` every publish below the handler.
    """

    name = "headers"
    stage = "transform"
    Settings = HeaderSettings

    def __init__(self, settings: HeaderSettings | None = None) -> None:
        self.settings = settings = settings or HeaderSettings()
        self._selection = Selection(
            settings.include,
            settings.exclude,
            max_bytes=settings.max_bytes,
            max_count=settings.max_count,
        )
        self._failures = CountedFailures(logger, "messages continue without it")
        self._lineage = Lineage(
            max_hops=settings.max_hops,
            correlation=settings.correlation,
            malformed=self._failures.note,
        )
        self._warned: dict[str, float] = {}
        if settings.scope == "context":
            # Set here and not defined below: else the other scope would pay for a layer.
            self.wrap_consume = _around_one(self._taken)
            self.wrap_consume_batch = _around_batch(self._taken)

    @property
    def counts(self) -> Counter[str]:
        """Headers that were dropped for want of room ("dropped"), and failures by kind."""
        return self._failures.counts

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Learn which headers other plugins own."""
        self._selection.leave_out(app.claimed_headers)
        yield

    # --- publish

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Give the message what it inherits; what the caller has set stays."""
        here = SURROUNDINGS.get()
        if message.origins or here is not None or message.headers:
            try:
                self._merge(message, here)
            except HopLimitError:
                raise
            except Exception as error:
                self._failures.note("handing headers on", error)
        return await call_next(message)

    def _merge(self, message: OutgoingMessage, here: Surroundings | None) -> None:
        meta = message.meta
        if MERGED in meta:
            return  # a layer further out publishes it again
        meta[MERGED] = True
        own = message.headers
        inherited = self._inherited(message, here)
        if own:
            names = {name for name, _ in own}
            own = [header for header in own if not is_dropped(header)]
            inherited = [header for header in inherited if header[0] not in names]
        message.headers = [*inherited, *own]

    def _inherited(self, message: OutgoingMessage, here: Surroundings | None) -> Sequence[Header]:
        if message.meta.get("propagate") is False or (here is not None and not here.is_on):
            return ()
        origins: Sequence[Origin] = message.origins
        if here is None:
            return self._of(origins, message.topic) if origins else ()
        if here.chosen is not None:
            origins = (here.chosen,)
        inherited = self._of(origins or here.origins, message.topic)
        names = {name for name, _ in here.added}
        return [*(header for header in inherited if header[0] not in names), *here.added]

    def _of(self, origins: Sequence[Origin], topic: str) -> Sequence[Header]:
        """What a message to `topic` inherits from these."""
        if not origins:
            return ()
        inherited = self._taken(origins)
        if not self._lineage.is_asked_for:
            return inherited
        own = self._lineage.headers(origins, topic)
        names = {name for name, _ in own}
        return [*(header for header in inherited if header[0] not in names), *own]

    def _taken(self, origins: Sequence[Origin]) -> Sequence[Header]:
        """Choose once per record, or batch, when something is first published for it."""
        first, count = origins[0], len(origins)
        if not isinstance(first, IncomingMessage):
            return self._choose(origins)
        meta = first.meta
        known: tuple[int, Sequence[Header]] | None = meta.get(MERGED)
        if known is None or known[0] != count:
            known = meta[MERGED] = (count, self._choose(origins))
        return known[1]

    def _choose(self, origins: Sequence[Origin]) -> list[Header]:
        first = origins[0]
        if len(origins) == 1:
            headers = first.headers
        elif self.settings.batch == "common":
            headers = _common(origins)
        else:
            return []
        if not headers:
            return []
        taken, dropped = self._selection.take(headers)
        if dropped:
            self._note_dropped(first.topic, dropped)
        return taken

    def _note_dropped(self, topic: str, count: int) -> None:
        self.counts["dropped"] += count
        now = asyncio.get_running_loop().time()
        if now - self._warned.get(topic, -WARNING_PAUSE) >= WARNING_PAUSE:
            self._warned[topic] = now
            logger.warning(
                "topic %s: %d headers of a record are not handed on, they exceed max_bytes %d or "
                "max_count %d",
                *(topic, count, self.settings.max_bytes, self.settings.max_count),
            )


def _around_one(rule: Rule) -> Callable[..., Any]:
    """Make the layer that says, below a handler, what is handed on there."""

    async def wrap_consume(message: IncomingMessage, call_next: ConsumeCall) -> Any:
        token = SURROUNDINGS.set(Surroundings((message,), rule))
        try:
            return await call_next(message)
        finally:
            SURROUNDINGS.reset(token)

    return hookimpl(wrap_consume)


def _around_batch(rule: Rule) -> Callable[..., Any]:
    """The same for a handler of batches."""

    async def wrap_consume_batch(
        messages: Sequence[IncomingMessage], call_next: ConsumeBatchCall
    ) -> Any:
        token = SURROUNDINGS.set(Surroundings(messages, rule))
        try:
            return await call_next(messages)
        finally:
            SURROUNDINGS.reset(token)

    return hookimpl(wrap_consume_batch)


def _common(origins: Sequence[Origin]) -> list[Header]:
    """The headers that every record of a batch has with the same values."""
    first, *others = (_by_name(origin.headers) for origin in origins)
    names = [name for name in first if all(other.get(name) == first[name] for other in others)]
    return [(name, value) for name in names for value in first[name]]


def _by_name(headers: Sequence[Header]) -> dict[str, list[bytes | None]]:
    values: dict[str, list[bytes | None]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return values

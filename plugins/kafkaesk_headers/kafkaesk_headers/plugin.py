"""The plugin: messages inherit the headers of the record being handled."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kafkaesk_core import (
    IncomingMessage,
    hookimpl,
)
from kafkaesk_core.plugin import CountedFailures

from .causation import CausationHeaders, HopLimitError
from .context import PROPAGATION, PropagationContext, override
from .filter import DEFAULT_EXCLUDE, HeaderFilter, is_dropped

if TYPE_CHECKING:
    from kafkaesk_core import (
        App,
        ConsumeBatchCall,
        ConsumeCall,
        Delivery,
        Header,
        OutgoingMessage,
        PublishCall,
    )

    from .context import HeaderSelector, Origin

__all__ = ["HeaderSettings", "HeadersPlugin"]

logger = logging.getLogger("kafkaesk.headers")

MERGED = "kafkaesk-headers"
WARNING_PAUSE = 60.0
Count = Annotated[int, Field(ge=0)]
Patterns = tuple[Annotated[str, Field(min_length=1)], ...]


class HeaderSettings(BaseModel):
    """Settings of the plugin, from the environment as KAFKAESK_HEADERS_<NAME>."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: Literal["subscriber", "context"] = Field(
        "subscriber", description='`"context"`: every publish below the handler inherits, see above'
    )
    include: Patterns = Field(("*",), description="names to copy: fnmatch patterns, case-sensitive")
    exclude: Patterns = Field(
        DEFAULT_EXCLUDE,
        description="beats `include`",
        json_schema_extra={"default": "see below"},
    )
    max_bytes: Count = Field(16_384, description="limit for copied names and values together")
    max_count: Count = Field(100, description="limit for the number of copied headers")
    max_hops: Annotated[int, Field(gt=0)] | None = Field(
        None,
        description="publishing raises `HopLimitError` after this many hops from the first "
        "message; the header is `kafkaesk-hops`",
    )
    correlation: bool = Field(
        False,
        description="adds `correlation-id`, copied from the first message, and `causation-id`: "
        "topic/partition/offset",
    )
    batch: Literal["common", "none"] = Field(
        "common", description='`"none"`: nothing is copied from batches'
    )


class HeadersPlugin:
    """Copies the headers of a handler's record to the messages that the handler publishes.

    With `scope="subscriber"` only messages of `subscriber.publish` inherit headers, and no layer is
    added around handlers. With `scope="context"` every publish inside the handler inherits them.
    """

    name = "headers"
    stage = "transform"
    Settings = HeaderSettings

    def __init__(self, settings: HeaderSettings | None = None) -> None:
        self.settings = settings = settings or HeaderSettings()
        self._filter = HeaderFilter(
            settings.include,
            settings.exclude,
            max_bytes=settings.max_bytes,
            max_count=settings.max_count,
        )
        self._failures = CountedFailures(logger, "messages continue without it")
        self._causation = CausationHeaders(
            max_hops=settings.max_hops,
            correlation=settings.correlation,
            on_malformed=self._failures.note,
        )
        self._warned: dict[str, float] = {}
        if settings.scope == "context":
            # Set here, not defined in the class: handlers of the other scope need no layer.
            self.wrap_consume = _around_one(self._select)
            self.wrap_consume_batch = _around_batch(self._select)

    @property
    def counts(self) -> Counter[str]:
        """The number of headers dropped by the limits ("dropped"), and of failures by kind."""
        return self._failures.counts

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Exclude the headers that other plugins own."""
        self._filter.exclude(app.claimed_headers)
        yield

    # --- publish

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Add the inherited headers; keep headers that the caller has set."""
        context = PROPAGATION.get()
        if message.origins or context is not None or message.headers:
            try:
                self._inherit(message, context)
            except HopLimitError:
                raise
            except Exception as error:
                self._failures.note("handing headers on", error)
        return await call_next(message)

    def _inherit(self, message: OutgoingMessage, context: PropagationContext | None) -> None:
        """Put the inherited headers before the message's own, which take precedence."""
        meta = message.meta
        if MERGED in meta:
            return  # an outer layer publishes the message again
        meta[MERGED] = True
        inherited: Sequence[Header] = ()
        if meta.get("propagate") is not False and (context is None or context.is_on):
            inherited = self._inherited(message, context)
        own = message.headers
        if not own:
            message.headers = list(inherited)
            return
        headers = override(inherited, own)
        message.headers = [header for header in headers if not is_dropped(header)]

    def _inherited(
        self, message: OutgoingMessage, context: PropagationContext | None
    ) -> Sequence[Header]:
        """Return the records' headers, then the plugin's own, then those of `propagating`."""
        origins: Sequence[Origin] = message.origins
        if context is not None:
            origins = context.sources(origins)
        headers: Sequence[Header] = ()
        if origins:
            headers = self._select(origins)
            if self._causation.is_enabled:
                headers = override(headers, self._causation.headers(origins, message.topic))
        return headers if context is None else override(headers, context.added)

    def _select(self, origins: Sequence[Origin]) -> Sequence[Header]:
        """Return the headers to inherit; selected once per record or batch, at first publish."""
        first, count = origins[0], len(origins)
        if not isinstance(first, IncomingMessage):
            return self._filtered(origins)
        known: tuple[int, Sequence[Header]] | None = first.meta.get(MERGED)
        if known is None or known[0] != count:
            known = first.meta[MERGED] = (count, self._filtered(origins))
        return known[1]

    def _filtered(self, origins: Sequence[Origin]) -> Sequence[Header]:
        first = origins[0]
        if len(origins) == 1:
            headers = first.headers
        elif self.settings.batch == "common":
            headers = _common(origins)
        else:
            return ()
        if not headers:
            return ()
        accepted, dropped = self._filter.apply(headers)
        if dropped:
            self._note_dropped(first.topic, dropped)
        return accepted

    def _note_dropped(self, topic: str, count: int) -> None:
        self.counts["dropped"] += count
        now = asyncio.get_running_loop().time()
        if now - self._warned.get(topic, -WARNING_PAUSE) >= WARNING_PAUSE:
            self._warned[topic] = now
            logger.warning(
                "topic %s: %d headers of a record are not copied: they exceed max_bytes %d or "
                "max_count %d",
                *(topic, count, self.settings.max_bytes, self.settings.max_count),
            )


def _around_one(select: HeaderSelector) -> Callable[..., Any]:
    """Wrap a handler, so that every publish inside it inherits headers."""

    async def wrap_consume(message: IncomingMessage, call_next: ConsumeCall) -> Any:
        token = PROPAGATION.set(PropagationContext((message,), select))
        try:
            return await call_next(message)
        finally:
            PROPAGATION.reset(token)

    return hookimpl(wrap_consume)


def _around_batch(select: HeaderSelector) -> Callable[..., Any]:
    """Do the same for a batch handler."""

    async def wrap_consume_batch(
        messages: Sequence[IncomingMessage], call_next: ConsumeBatchCall
    ) -> Any:
        token = PROPAGATION.set(PropagationContext(messages, select))
        try:
            return await call_next(messages)
        finally:
            PROPAGATION.reset(token)

    return hookimpl(wrap_consume_batch)


def _common(origins: Sequence[Origin]) -> list[Header]:
    """Return the headers that all records of a batch have with the same values."""
    first, *others = (_by_name(origin.headers) for origin in origins)
    names = [name for name in first if all(other.get(name) == first[name] for other in others)]
    return [(name, value) for name in names for value in first[name]]


def _by_name(headers: Sequence[Header]) -> dict[str, list[bytes | None]]:
    values: dict[str, list[bytes | None]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return values

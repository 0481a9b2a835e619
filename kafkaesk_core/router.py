"""What a service declares before it runs: schemas, subscriptions and event handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import Disposition
from .message import IncomingMessage

Ordering = Literal["partition", "key", "unordered"]
OnError = Literal["stop", "skip"] | Callable[[BaseException, IncomingMessage], Disposition]


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """A handler and what it is subscribed to; `pattern` and `topics` name streams."""

    consumer_id: str
    func: Callable[..., Awaitable[Any]]
    group: str
    pattern: str | None = field(default=None, kw_only=True)
    topics: Sequence[str] | None = field(default=None, kw_only=True)
    timeout_seconds: float | None = field(default=None, kw_only=True)
    concurrency: int | None = field(default=None, kw_only=True)
    ordering: Ordering = field(default="partition", kw_only=True)
    on_error: OnError = field(default="stop", kw_only=True)
    skip_plugins: frozenset[str] = field(default=frozenset(), kw_only=True)

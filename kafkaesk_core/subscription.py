"""A handler and what it is subscribed to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Literal, get_args

from .errors import Disposition, SubscriptionError
from .message import IncomingMessage

__all__ = ["Handler", "OnError", "Ordering", "Subscription"]

Handler = Callable[..., Awaitable[Any]]
Ordering = Literal["partition", "key", "unordered"]
BATCH_SIZE, BATCH_TIMEOUT = 500, 0.1
OVERRIDABLE = (
    "drain_timeout",
    "cancel_grace",
    "commit_timeout",
    "max_uncommitted",
    "max_record_age",
)
OnError = Literal["stop", "skip"] | Callable[[BaseException, IncomingMessage], Disposition]


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """A handler, its consumer group, and the streams it takes.

    Either `pattern`, an fnmatch pattern over stream names, or `topics`, literal stream names.
    `timeout_seconds` None means no limit. `concurrency` None means one handler per assigned
    partition with `ordering="partition"`, 100 otherwise. `on_error` decides on exceptions that
    are not dispositions: "stop", "skip", or a function of the error and the message that returns
    a disposition. Layers of the plugins named in `skip_plugins` are left out.

    A handler whose first parameter is annotated with `list[...]` gets the messages of one
    partition in batches: up to `batch_size` (None: 500) at a time, none of them waiting longer
    than `batch_timeout` seconds (None: 0.1) for others. The limits then apply to the batch.

    `drain_timeout`, `cancel_grace`, `commit_timeout`, `max_uncommitted` and `max_record_age` are
    those of the application unless they are given here. A group is handed over as a whole: of the
    three times, the longest of its subscriptions counts.

    Raises:
        SubscriptionError: a value cannot work; the handler and the remedy are named.
    """

    consumer_id: str
    func: Handler
    group: str
    pattern: str | None = field(default=None, kw_only=True)
    topics: Sequence[str] | None = field(default=None, kw_only=True)
    timeout_seconds: float | None = field(default=None, kw_only=True)
    concurrency: int | None = field(default=None, kw_only=True)
    ordering: Ordering = field(default="partition", kw_only=True)
    on_error: OnError = field(default="stop", kw_only=True)
    skip_plugins: frozenset[str] = field(default=frozenset(), kw_only=True)
    batch_size: int | None = field(default=None, kw_only=True)
    batch_timeout: float | None = field(default=None, kw_only=True)
    drain_timeout: float | None = field(default=None, kw_only=True)
    cancel_grace: float | None = field(default=None, kw_only=True)
    commit_timeout: float | None = field(default=None, kw_only=True)
    max_uncommitted: int | None = field(default=None, kw_only=True)
    max_record_age: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise SubscriptionError(f"handler {self.handler_name}: {problem}")

    def _problems(self) -> list[str]:
        taken = self.pattern if self.topics is None else self.topics
        orderings = get_args(Ordering)
        checks = (
            (_is_async(self.func), "is not 'async def'; declare it so, and use asyncio.to_thread"),
            (_takes_data(self.func), "takes no parameter; its first one receives the data"),
            (
                _is_name(self.pattern) if self.topics is None else self._has_names(),
                f"is subscribed to {taken!r}; give a stream pattern, or a list of stream names",
            ),
            (
                _is_name(self.group),
                f"has the consumer group {self.group!r}; give a name, or leave it out",
            ),
            (
                self.timeout_seconds is None or self.timeout_seconds > 0,
                f"has timeout_seconds={self.timeout_seconds!r}; give more than 0, or None for none",
            ),
            (
                self.concurrency is None or _is_count(self.concurrency),
                f"has concurrency={self.concurrency!r}; give 1 or more, or None",
            ),
            (
                self.ordering in orderings,
                f"has ordering={self.ordering!r}; use one of {', '.join(orderings)}",
            ),
            (
                self.on_error in ("stop", "skip") or callable(self.on_error),
                f"has on_error={self.on_error!r}; use 'stop', 'skip', "
                "or a function (error, message) -> Retry, Skip or Stop",
            ),
            (
                self.batch_size is None or _is_count(self.batch_size),
                f"has batch_size={self.batch_size!r}; give 1 or more, or None",
            ),
            (
                self.batch_timeout is None or self.batch_timeout >= 0,
                f"has batch_timeout={self.batch_timeout!r}; give 0 or more seconds, or None",
            ),
        )
        return [problem for holds, problem in checks if not holds]

    def _has_names(self) -> bool:
        streams = self.topics or ()
        is_list = isinstance(streams, Sequence) and not isinstance(streams, str)
        return is_list and bool(streams) and self.pattern is None and all(map(_is_name, streams))

    @property
    def handler_name(self) -> str:
        """The handler as "module.qualified_name"."""
        func = self.func
        name = getattr(func, "__qualname__", None) or repr(func)
        return f"{getattr(func, '__module__', '?')}.{name}"

    @property
    def stream_regex(self) -> str:
        """A regular expression that matches whole stream names."""
        if self.topics is not None:
            return f"(?:{'|'.join(re.escape(topic) for topic in self.topics)})\\Z"
        return translate(self.pattern or "")

    def matches(self, stream: str) -> bool:
        """Whether this subscription takes the messages of a stream."""
        return re.match(self.stream_regex, stream) is not None

    @property
    def overrides(self) -> dict[str, Any]:
        """The application's settings that are others here."""
        given = {name: getattr(self, name) for name in OVERRIDABLE}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def batch_limits(self) -> tuple[int, float]:
        """How many messages a batch holds at most, and for how many seconds one waits for them."""
        size = BATCH_SIZE if self.batch_size is None else self.batch_size
        timeout = BATCH_TIMEOUT if self.batch_timeout is None else self.batch_timeout
        return size, timeout

    def __repr__(self) -> str:
        taken = self.pattern if self.topics is None else ", ".join(self.topics)
        return f"<Subscription {self.handler_name} to {taken} as {self.group}>"


def _is_async(func: Handler) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - an object with `async def __call__`
    )


def _takes_data(func: Handler) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in kinds for p in inspect.signature(func).parameters.values())


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

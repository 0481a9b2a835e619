"""A handler and what it is subscribed to."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Literal, get_args

from .errors import Disposition, SubscriptionError
from .message import IncomingMessage
from .names import RULE, impossible_part, is_literal, is_topic_name, sample_of

__all__ = ["Handler", "OnError", "Ordering", "Subscription", "is_async", "is_count", "is_number"]

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
POSITIVE_NUMBERS = (
    "timeout_seconds",
    "drain_timeout",
    "cancel_grace",
    "commit_timeout",
    "max_record_age",
)
COUNTS = ("concurrency", "batch_size", "max_uncommitted")
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
    skip_plugins: Collection[str] = field(default=frozenset(), kw_only=True)
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
        object.__setattr__(self, "skip_plugins", frozenset(self.skip_plugins))

    def _problems(self) -> Iterator[str]:
        """What cannot work, the first being told."""
        yield from _problems_of_handler(self.func)
        yield from self._problems_of_streams()
        if not _is_name(self.group):
            yield f"has the consumer group {self.group!r}; give a name, or leave it out"
        yield from self._problems_of_numbers()
        if self.ordering not in get_args(Ordering):
            yield f"has ordering={self.ordering!r}; use one of {', '.join(get_args(Ordering))}"
        if not _is_names(self.skip_plugins):
            yield f"has skip_plugins={self.skip_plugins!r}; give a list of plugin names"
        yield from _problems_of_on_error(self.on_error)

    def _problems_of_numbers(self) -> Iterator[str]:
        for name in POSITIVE_NUMBERS:
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value > 0):
                yield f"has {name}={value!r}; give a number greater than 0, or None"
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and not is_count(value):
                yield f"has {name}={value!r}; give an integer of 1 or more, or None"
        timeout = self.batch_timeout
        if timeout is not None and not (is_number(timeout) and timeout >= 0):
            yield f"has batch_timeout={timeout!r}; give 0 or more seconds, or None"

    def _problems_of_streams(self) -> Iterator[str]:
        taken = self.pattern if self.topics is None else self.topics
        if not (_is_name(self.pattern) if self.topics is None else self._has_names()):
            yield f"is subscribed to {taken!r}; give a stream pattern, or a list of stream names"
        elif self.topics is not None:
            for name in self.topics:
                if not is_topic_name(name):
                    yield f"stream {name!r} cannot be a topic; {RULE}"
        elif is_literal(self.pattern or ""):
            if not is_topic_name(self.pattern or ""):
                yield f"stream {self.pattern!r} cannot be a topic; {RULE}"
        elif part := impossible_part(self.pattern or ""):
            yield (
                f"pattern {self.pattern!r} matches no topic because of its {part!r}; {RULE}; "
                "the wildcards are *, ? and [...], as in file names, and no regular expression"
            )

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

    @property
    def literal_streams(self) -> Sequence[str]:
        """The streams that it names; empty for a pattern with wildcards."""
        if self.topics is not None:
            return self.topics
        return (self.pattern,) if self.pattern and is_literal(self.pattern) else ()

    @property
    def streams(self) -> Sequence[str]:
        """The names, or the one pattern, that it is subscribed to."""
        return (self.pattern or "",) if self.topics is None else self.topics

    def shared_with(self, other: Subscription) -> str | None:
        """A stream, or a pattern, that another subscription takes as well; None if unknown.

        Two patterns may share streams that nobody knows before they exist: these are found only
        where one pattern matches all that the other does.
        """
        for one, two in ((self, other), (other, self)):
            for stream in one.streams:
                sample = sample_of(stream) if one.topics is None else stream
                if stream in two.streams or two.matches(sample):
                    return stream
        return None

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


def is_async(func: object) -> bool:
    """Whether it is an `async def` function, or an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - an object with `async def __call__`
    )


def _problems_of_handler(func: object) -> Iterator[str]:
    if not callable(func):
        yield f"must be an 'async def' function, got {func!r}"
        return
    if not is_async(func):
        remedy = "call blocking code with await asyncio.to_thread(...)"
        if inspect.isasyncgenfunction(func):
            remedy = "remove its 'yield', and publish with await app.publish(...)"
        yield f"must be an 'async def' function; {remedy}"
        return
    parameters = list(inspect.signature(func).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not any(parameter.kind in kinds for parameter in parameters):
        yield "takes no parameter; its first parameter receives the data"
        return
    for parameter in parameters[1:]:
        is_required = parameter.default is parameter.empty
        if parameter.kind is parameter.POSITIONAL_ONLY and is_required:
            yield (
                f"parameter {parameter.name!r} is positional-only, but all parameters after the "
                "first are passed by name; move it behind the '/'"
            )


def _problems_of_on_error(on_error: object) -> Iterator[str]:
    allowed = "'stop', 'skip', or a function of (error, message) that returns Retry, Skip or Stop"
    is_disposition = isinstance(on_error, Disposition) or (
        inspect.isclass(on_error) and issubclass(on_error, Disposition)
    )
    if isinstance(on_error, str) and on_error in ("stop", "skip"):
        return
    if is_disposition or not callable(on_error):
        yield f"has on_error={on_error!r}; use {allowed}"
    elif is_async(on_error):
        yield f"has on_error={on_error!r}, an 'async def' function; use a plain 'def' function"
    elif not _takes_two(on_error):
        yield f"has on_error={on_error!r}, which cannot be called with (error, message)"


def _takes_two(func: Callable[..., Any]) -> bool:
    try:
        inspect.signature(func).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def _is_names(value: object) -> bool:
    is_several = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
    return is_several and all(map(_is_name, value)) if isinstance(value, Collection) else False


def is_number(value: object) -> bool:
    """Whether it is a finite int or float, and no bool."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) if isinstance(value, (int, float)) else False


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_count(value: object) -> bool:
    """Whether it is an int of 1 or more, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

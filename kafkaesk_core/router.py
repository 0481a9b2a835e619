"""The declarations of a service: subscriptions, schemas and event handlers."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections import ChainMap
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args, overload
from weakref import WeakSet

from pydantic import BaseModel

from .errors import ConfigurationError, Disposition, InvalidSchemaError, SubscriptionError
from .message import IncomingMessage
from .publications import Publication
from .schema.registry import SchemaRegistration, Schemas
from .topic_names import LONGEST, TOPIC_NAME_RULE, invalid_character, is_topic_name

__all__ = [
    "EventHandler",
    "Handler",
    "OnError",
    "Ordering",
    "Router",
    "Subscription",
    "is_async",
    "is_count",
    "is_number",
    "set_option",
]

Handler = Callable[..., Any]
"""An `async def` function, or a `def` function, which is called in a thread."""
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
    """A handler, its consumer group, and its streams.

    Give either `pattern`, an fnmatch pattern over stream names, or `topics`, literal stream names.
    `timeout_seconds` None means no limit. `concurrency` None means one handler per assigned
    partition with `ordering="partition"`, 100 otherwise. `on_error` decides on exceptions that are
    not dispositions: "stop", "skip", or a function that takes the error and the message and returns
    a disposition. `skip_plugins` names plugins whose layers are left out. `options` are the
    plugins' options, by the names that they claim; an option given here overrides one that a
    plugin's decorator sets on the handler. `envelope=False` reads plain JSON; None reads it only if
    the handler's model is registered with `envelope=False`.

    A handler whose first parameter is annotated with `list[...]` gets the messages of one partition
    in batches of up to `batch_size` (None: 500). A message waits at most `batch_timeout` seconds
    (None: 0.1) for others. The limits then apply to the batch.

    A `def` handler is called in a thread, with a copy of the context. A timeout cannot end the
    thread; the handler counts as stuck until its thread ends.

    `drain_timeout`, `cancel_grace`, `commit_timeout`, `max_uncommitted` and `max_record_age`
    default to the application's. A group is handed over as a whole, so the longest time of its
    subscriptions applies.

    Raises:
        SubscriptionError: a value is invalid; the error names the handler and the remedy.
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
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    envelope: bool | None = field(default=None, kw_only=True)
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
        options = ChainMap(dict(self.options), *_options_of(self.func))
        object.__setattr__(self, "options", options)

    def _problems(self) -> Iterator[str]:
        """Yield the problems; only the first one is reported."""
        yield from _problems_of_handler(self.func)
        yield from self._problems_of_streams()
        if not _is_name(self.group):
            yield f"has the consumer group {self.group!r}; give a name, or leave it out"
        yield from self._problems_of_numbers()
        if self.ordering not in get_args(Ordering):
            yield f"has ordering={self.ordering!r}; use one of {', '.join(get_args(Ordering))}"
        if not _is_names(self.skip_plugins):
            yield f"has skip_plugins={self.skip_plugins!r}; give a list of plugin names"
        if not (isinstance(self.options, Mapping) and all(map(_is_name, self.options))):
            yield f"has options={self.options!r}; give a dict of the names that plugins claim"
        if self.envelope not in (None, True, False):
            yield f"has envelope={self.envelope!r}; give True, False or None"
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
                    yield f"stream {name!r} cannot be a topic; {TOPIC_NAME_RULE}"
        elif _is_literal(self.pattern or ""):
            if not is_topic_name(self.pattern or ""):
                yield f"stream {self.pattern!r} cannot be a topic; {TOPIC_NAME_RULE}"
        elif part := _impossible_part(self.pattern or ""):
            yield (
                f"pattern {self.pattern!r} matches no topic because of its {part!r}; "
                f"{TOPIC_NAME_RULE}; "
                "the wildcards are *, ? and [...], as in file names, and not a regular expression"
            )

    def _has_names(self) -> bool:
        streams = self.topics or ()
        is_list = isinstance(streams, Sequence) and not isinstance(streams, str)
        return is_list and bool(streams) and self.pattern is None and all(map(_is_name, streams))

    @property
    def handler_name(self) -> str:
        """The handler's name as "module.qualified_name"."""
        func = self.func
        name = getattr(func, "__qualname__", None) or repr(func)
        return f"{getattr(func, '__module__', '?')}.{name}"

    @property
    def stream_regex(self) -> str:
        """A regular expression that matches whole stream names."""
        return self.regex_without(())

    def regex_without(self, claimed: Collection[str]) -> str:
        """Return `stream_regex` without streams that match `claimed`, fnmatch patterns of plugins.

        Streams that the subscription names literally still match.
        """
        if self.topics is not None:
            return f"(?:{'|'.join(re.escape(topic) for topic in self.topics)})\\Z"
        regex = translate(self.pattern or "")
        if not claimed or self.literal_streams:
            return regex
        return f"(?!{'|'.join(translate(pattern) for pattern in sorted(claimed))}){regex}"

    @property
    def literal_streams(self) -> Sequence[str]:
        """The streams that the subscription names; empty for a pattern with wildcards."""
        if self.topics is not None:
            return self.topics
        return (self.pattern,) if self.pattern and _is_literal(self.pattern) else ()

    @property
    def streams(self) -> Sequence[str]:
        """The subscribed names, or the one pattern."""
        return (self.pattern or "",) if self.topics is None else self.topics

    def shared_with(self, other: Subscription, claimed: Collection[str] = ()) -> str | None:
        """Return a stream or pattern that another subscription also takes; None if none is known.

        Two patterns may share streams that do not exist yet. This is found only if one pattern
        matches everything that the other one matches.
        """
        for one, two in ((self, other), (other, self)):
            for stream in one.streams:
                sample = _sample_of(stream) if one.topics is None else stream
                if stream in two.streams or two.matches(sample, claimed):
                    return stream
        return None

    def matches(self, stream: str, claimed: Collection[str] = ()) -> bool:
        """Whether this subscription takes a stream; `claimed` are the patterns of plugins."""
        return re.match(self.regex_without(claimed), stream) is not None

    @property
    def overrides(self) -> dict[str, Any]:
        """The application's settings that this subscription overrides."""
        given = {name: getattr(self, name) for name in OVERRIDABLE}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def batch_limits(self) -> tuple[int, float]:
        """The maximum number of messages in a batch, and the seconds to wait for them."""
        size = BATCH_SIZE if self.batch_size is None else self.batch_size
        timeout = BATCH_TIMEOUT if self.batch_timeout is None else self.batch_timeout
        return size, timeout

    def __repr__(self) -> str:
        taken = self.pattern if self.topics is None else ", ".join(self.topics)
        return f"<Subscription {self.handler_name} to {taken} as {self.group}>"


def is_async(func: object) -> bool:
    """Whether the handler is an `async def` function, or an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - an object with `async def __call__`
    )


def _problems_of_handler(func: object) -> Iterator[str]:
    if not callable(func) or inspect.isclass(func):
        yield f"must be an 'async def' function, or a 'def' function for a thread, got {func!r}"
        return
    if inspect.isasyncgenfunction(func) or inspect.isgeneratorfunction(func):
        yield "is a generator; remove its 'yield', and publish with await app.publish(...)"
        return
    if not is_async(func) and is_async(inspect.unwrap(func)):
        yield (
            "is an 'async def' function inside of a decorator that is not, so its result would "
            "not be awaited; make the decorator's inner function 'async def'"
        )
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
    allowed = (
        "'stop', 'skip', or a function of (error, message) that returns Retry, Defer, Skip or Stop"
    )
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
    """Whether the value is a finite int or float, not a bool."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) if isinstance(value, (int, float)) else False


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_count(value: object) -> bool:
    """Whether the value is an int of 1 or more, not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


# --- options of plugins

_OPTIONS = "__kafkaesk_options__"


def set_option(func: H, name: str, value: object) -> H:
    """Set a plugin's option on a handler; for decorators that a plugin provides.

    The option is part of the `options` of every subscription of this handler, whether the decorator
    is above or below `@app.subscribe`; `options=` of the subscription overrides it. Returns the
    handler.

    Raises:
        TypeError: the handler accepts no attributes, such as a bound method.
    """
    (own, *_) = _options_of(func)
    own[name] = value
    if getattr(func, _OPTIONS, None) is not own:
        raise TypeError(
            f"the option {name!r} cannot be set on {func!r}; decorate the function itself, or give "
            f"options={{{name!r}: ...}} where it is subscribed"
        )
    return func


def _options_of(func: Any) -> list[dict[str, Any]]:
    """Return the options set on a handler, and on the function inside a partial."""
    found = getattr(func, _OPTIONS, None)
    if found is None:
        found = {}
        with suppress(AttributeError, TypeError):
            setattr(func, _OPTIONS, found)  # so that options that are set later are seen, too
    inner = _options_of(func.func) if isinstance(func, functools.partial) else []
    return [found, *inner]


# --- patterns of stream names

_WILDCARD = re.compile(r"[*?]|\[!?\]?[^\]]*\]")


def _is_literal(pattern: str) -> bool:
    """Whether an fnmatch pattern has no wildcards, so that it matches only itself."""
    return not _WILDCARD.search(pattern)


def _impossible_part(pattern: str) -> str | None:
    """Return a pattern's first character that no topic name can have, or None.

    "orders/*" cannot match a topic because of its "/".
    """
    return invalid_character(_WILDCARD.sub("", pattern))


def _sample_of(pattern: str) -> str:
    """Return a sample text that stands for all matches of a pattern.

    In the sample, each wildcard is replaced by a character that only a wildcard matches. If another
    pattern matches the sample, it therefore matches every topic that this pattern matches.
    """
    return _WILDCARD.sub(lambda found: "\0" * (LONGEST if found.group() == "*" else 1), pattern)


# --- the router

EventHandler = Callable[[], Awaitable[None]]
Event = Literal["initialize", "finalize"]
E = TypeVar("E", bound=EventHandler)
H = TypeVar("H", bound=Handler)
M = TypeVar("M", bound=type[BaseModel])
S = TypeVar("S", bound="type[BaseModel] | Mapping[str, Any]")


class SubscriptionOptions(TypedDict, total=False):
    """The keyword-only arguments of the three ways to subscribe; see Subscription."""

    timeout_seconds: float | None
    concurrency: int | None
    ordering: Ordering
    on_error: OnError
    skip_plugins: Sequence[str]
    options: Mapping[str, Any]
    envelope: bool | None
    batch_size: int | None
    batch_timeout: float | None
    drain_timeout: float | None
    cancel_grace: float | None
    commit_timeout: float | None
    max_uncommitted: int | None
    max_record_age: float | None


class Router:
    """Schemas, subscriptions and event handlers of one part of a service.

    Mount it into an application with `app.mount(router)`; an application is itself a router.
    Declarations on a mounted router reach the application, even if they are made later.
    """

    def __init__(self) -> None:
        self._schemas = Schemas()
        self._subscriptions: list[Subscription] = []
        self._event_handlers: dict[str, list[EventHandler]] = {}
        self._publications: list[Publication] = []
        self._mounted: list[Router] = []
        self._mounted_in: WeakSet[Router] = WeakSet()

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions, in the order of their declaration."""
        return tuple(self._subscriptions)

    @property
    def schemas(self) -> Mapping[str, SchemaRegistration]:
        """The registered schemas, by name: "Content:1"."""
        return {registration.key: registration for registration in self._schemas}

    @property
    def mounted(self) -> tuple[Router, ...]:
        """All routers mounted in this one, at any depth."""
        return tuple(self._all_mounted())[1:]

    @property
    def publications(self) -> tuple[Publication, ...]:
        """The declarations of `publishes()`, in order."""
        return tuple(self._publications)

    @overload
    def on(self, name: Event) -> Callable[[E], E]: ...

    @overload
    def on(self, name: Event, handler: E) -> E: ...

    def on(self, name: Event, handler: E | None = None) -> E | Callable[[E], E]:
        """Call `handler` when the application has started ("initialize") or stops ("finalize").

        Without a handler it is a decorator: `@app.on("initialize")`.

        Raises:
            ConfigurationError: no event has this name, or the handler is not callable.
        """
        if callable(name):
            raise ConfigurationError(
                f"@app.on needs the event's name; write @app.on('initialize') above {_name(name)}"
            )
        if name not in ("initialize", "finalize"):
            raise ConfigurationError(f"no event {name!r}; use 'initialize' or 'finalize'")

        def decorate(handler: E) -> E:
            _check_event_handler(name, handler)
            self._add_event_handler(name, handler)
            return handler

        return decorate if handler is None else decorate(handler)

    def _add_event_handler(self, name: str, handler: EventHandler) -> None:
        for parent in self._mounted_in:
            parent._add_event_handler(name, handler)
        self._event_handlers.setdefault(name, []).append(handler)

    def subscribe(
        self, stream_id: str, group: str | None = None, **options: Unpack[SubscriptionOptions]
    ) -> Callable[[H], H]:
        """Subscribe the decorated handler to the streams that match an fnmatch pattern.

        `group` is the consumer group; it defaults to the handler's function name. `Subscription`
        documents the options of all three ways to subscribe.
        """
        return self._subscribe("subscribe", group, options, pattern=stream_id)

    def subscribe_to_pattern(
        self, pattern: str, group: str | None = None, **options: Unpack[SubscriptionOptions]
    ) -> Callable[[H], H]:
        """Do the same as `subscribe`."""
        return self._subscribe("subscribe_to_pattern", group, options, pattern=pattern)

    def subscribe_to_topics(
        self,
        topics: Sequence[str],
        group: str | None = None,
        **options: Unpack[SubscriptionOptions],
    ) -> Callable[[H], H]:
        """Subscribe the decorated handler to all streams in `topics`, by their literal names.

        Raises:
            SubscriptionError: a name, the group or an option is invalid.
        """
        return self._subscribe("subscribe_to_topics", group, options, topics=topics)

    def _subscribe(
        self,
        called: str,
        group: str | None,
        options: SubscriptionOptions,
        *,
        pattern: str | None = None,
        topics: Sequence[str] | None = None,
    ) -> Callable[[H], H]:
        taken = pattern if topics is None else topics
        if callable(taken):
            example = "'orders.placed'" if topics is None else "['orders.placed']"
            raise SubscriptionError(
                f"@app.{called} needs a stream; write @app.{called}({example}) above {_name(taken)}"
            )
        if unknown := sorted(options.keys() - SubscriptionOptions.__annotations__.keys()):
            known = ", ".join(SubscriptionOptions.__annotations__)
            raise SubscriptionError(f"{called}() has no option {unknown[0]!r}; known: {known}")

        def decorate(func: H) -> H:
            name = getattr(func, "__name__", "") if group is None else group
            consumer_id = str(name)
            subscription = Subscription(
                consumer_id, func, name, pattern=pattern, topics=topics, **options
            )
            self._add_subscription(subscription)
            return func

        return decorate

    def _add_subscription(self, subscription: Subscription) -> None:
        for parent in self._mounted_in:
            parent._add_subscription(subscription)
        self._subscriptions.append(subscription)

    @overload
    def schema(self, _id: M) -> M: ...

    @overload
    def schema(
        self,
        _id: str | None = None,
        *,
        version: int | None = None,
        retention: int | None = None,
        streams: Sequence[str] | None = None,
        partitions: int | None = None,
        replication_factor: int | None = None,
        options: Mapping[str, Any] | None = None,
        envelope: bool = True,
    ) -> Callable[[S], S]: ...

    def schema(
        self,
        _id: str | type[BaseModel] | None = None,
        *,
        version: int | None = None,
        retention: int | None = None,
        streams: Sequence[str] | None = None,
        partitions: int | None = None,
        replication_factor: int | None = None,
        options: Mapping[str, Any] | None = None,
        envelope: bool = True,
    ) -> Any:  # see the overloads
        """Register the decorated pydantic model, or a JSON Schema document, as a schema.

        `_id` defaults to the class's name; a document needs one. `@app.schema` without parentheses
        is the same as `@app.schema()`. `retention` is in seconds. The topics of `streams` are
        created at start; `partitions` and `replication_factor` override the application's.
        `options` are the plugins' options, by the names that they claim. `envelope=False` writes
        and reads plain JSON without the schema's name.

        Raises:
            InvalidSchemaError: an argument or the model is invalid.
            SchemaConflictError: another model or document has this id and version.
        """
        name = _id if isinstance(_id, str) else ""
        if not (_id is None or name or isinstance(_id, (str, type))):
            raise InvalidSchemaError(f"@app.schema takes the schema's name, got {_id!r}")

        def decorate(definition: S) -> S:
            registration = SchemaRegistration(
                name or str(getattr(definition, "__name__", "")),
                1 if version is None else version,
                model=definition if isinstance(definition, type) else None,
                document=None if isinstance(definition, type) else definition,
                retention=retention,
                streams=() if streams is None else streams,
                partitions=partitions,
                replication_factor=replication_factor,
                options={} if options is None else options,
                envelope=envelope,
            )
            _check_streams(registration)
            self._add_schema(registration)
            return definition

        return decorate(_id) if isinstance(_id, type) else decorate

    def _add_schema(self, registration: SchemaRegistration) -> None:
        for parent in self._mounted_in:
            parent._add_schema(registration)
        self._schemas.register(registration)

    def publishes(self, stream_id: str, schema: type[BaseModel] | str) -> None:
        """Declare that the service publishes this model, or schema ("Content:1"), to a stream.

        The declaration appears in `describe()`. From the start on, the stream carries this schema,
        and publishing another schema to it raises a SchemaConflictError. The model may be
        registered later.

        Raises:
            ConfigurationError: the stream is not a valid topic name, or the schema is not a schema.
        """
        self._add_publication(Publication(stream_id, schema))

    def _add_publication(self, publication: Publication) -> None:
        for parent in self._mounted_in:
            parent._add_publication(publication)
        self._publications.append(publication)

    def mount(self, router: Router) -> None:
        """Add the declarations of another router, present and later ones; replace nothing.

        Raises:
            SchemaConflictError: the routers declare one schema differently; nothing is added.
            ConfigurationError: the argument is not a router, is already mounted here, or contains
                this router.
        """
        if not isinstance(router, Router):
            raise ConfigurationError(f"mount() takes a Router, got {type(router).__name__}")
        self._check_mount(router)
        self._schemas.check(router._schemas)
        for registration in router._schemas:
            self._add_schema(registration)
        for subscription in router._subscriptions:
            self._add_subscription(subscription)
        for publication in router._publications:
            self._add_publication(publication)
        for name, handlers in router._event_handlers.items():
            for handler in handlers:
                self._add_event_handler(name, handler)
        self._mounted.append(router)
        router._mounted_in.add(self)

    def _unmount(self, router: Router) -> None:
        """Remove the declarations of a router, except its schemas, which may already be in use."""
        for subscription in router._subscriptions:
            self._subscriptions.remove(subscription)
        for publication in router._publications:
            self._publications.remove(publication)
        for name, handlers in router._event_handlers.items():
            for handler in handlers:
                self._event_handlers[name].remove(handler)
        self._mounted.remove(router)
        router._mounted_in.discard(self)

    def _check_mount(self, router: Router) -> None:
        """Refuse a mount that would declare a handler twice or create a cycle."""
        if router is self:
            raise ConfigurationError("mount() got the router itself; mount another router")
        added = list(router._all_mounted())
        for place in self._all_places():
            if place in added:
                raise ConfigurationError(
                    f"mounting {router!r} makes a circle: it contains the router that it is "
                    "mounted in; mount routers in one direction only"
                )
            twice = [found for found in place._all_mounted() if found in added]
            if twice:
                raise ConfigurationError(
                    f"{twice[0]!r} is mounted already, and mounting it again would run each of its "
                    "handlers twice; mount it once"
                )

    def _all_mounted(self) -> Iterator[Router]:
        """Yield this router and all routers mounted in it, at any depth."""
        yield self
        for router in self._mounted:
            yield from router._all_mounted()

    def _all_places(self) -> Iterator[Router]:
        """Yield this router and all routers that it is mounted in, at any height."""
        yield self
        for router in self._mounted_in:
            yield from router._all_places()

    def __repr__(self) -> str:
        names = [subscription.handler_name for subscription in self._subscriptions]
        names += self.schemas
        return f"<{type(self).__name__} of {', '.join(names) or 'nothing'}>"


def _name(declared: object) -> str:
    return str(getattr(declared, "__name__", declared))


def _check_event_handler(event: str, handler: object) -> None:
    if not callable(handler):
        raise ConfigurationError(f"on({event!r}) takes an async function, got {handler!r}")
    if _name(handler) != "<lambda>" and not is_async(handler):  # one may return an awaitable
        raise ConfigurationError(
            f"on({event!r}): {_name(handler)} must be an 'async def' function; call blocking code "
            "with await asyncio.to_thread(...)"
        )
    try:
        inspect.signature(handler).bind()
    except TypeError as error:
        raise ConfigurationError(
            f"on({event!r}): {_name(handler)} is called without arguments: {error}"
        ) from error


def _check_streams(registration: SchemaRegistration) -> None:
    for stream in registration.streams:
        if not is_topic_name(stream):
            raise InvalidSchemaError(
                f"schema {registration.id!r}: stream {stream!r} cannot be a topic; "
                f"{TOPIC_NAME_RULE}",
                schema=registration.id,
            )

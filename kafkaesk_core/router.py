"""What a service declares before it runs: schemas, subscriptions and event handlers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload
from weakref import WeakSet

from pydantic import BaseModel

from .errors import ConfigurationError, InvalidSchemaError, SubscriptionError
from .names import RULE, is_topic_name
from .schema.registry import SchemaRegistration, Schemas
from .subscription import Handler, OnError, Ordering, Subscription, is_async

__all__ = ["EventHandler", "Router"]

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
    batch_size: int | None
    batch_timeout: float | None
    drain_timeout: float | None
    cancel_grace: float | None
    commit_timeout: float | None
    max_uncommitted: int | None
    max_record_age: float | None


class Router:
    """Schemas, subscriptions and event handlers of one part of a service.

    Mounted into an application with `app.mount(router)`; an application is a router itself. What
    is declared on a router after it was mounted reaches the application too.
    """

    def __init__(self) -> None:
        self._schemas = Schemas()
        self._subscriptions: list[Subscription] = []
        self._event_handlers: dict[str, list[EventHandler]] = {}
        self._mounted: list[Router] = []
        self._mounted_in: WeakSet[Router] = WeakSet()

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What was subscribed, in order."""
        return tuple(self._subscriptions)

    @property
    def schemas(self) -> Mapping[str, SchemaRegistration]:
        """What was registered, by name: "Content:1"."""
        return {registration.key: registration for registration in self._schemas}

    @overload
    def on(self, name: Event) -> Callable[[E], E]: ...

    @overload
    def on(self, name: Event, handler: E) -> E: ...

    def on(self, name: Event, handler: E | None = None) -> E | Callable[[E], E]:
        """Call `handler` when the application has started ("initialize") or stops ("finalize").

        Without a handler it is a decorator: `@app.on("initialize")`.

        Raises:
            ConfigurationError: there is no event of this name, or the handler cannot be called.
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

        `group` is the consumer group, by default the handler's function name. For the options
        see `Subscription`, here and in the two other ways to subscribe.
        """
        return self._subscribe("subscribe", group, options, pattern=stream_id)

    def subscribe_to_pattern(
        self, pattern: str, group: str | None = None, **options: Unpack[SubscriptionOptions]
    ) -> Callable[[H], H]:
        """The same as `subscribe`."""
        return self._subscribe("subscribe_to_pattern", group, options, pattern=pattern)

    def subscribe_to_topics(
        self,
        topics: Sequence[str],
        group: str | None = None,
        **options: Unpack[SubscriptionOptions],
    ) -> Callable[[H], H]:
        """Subscribe the decorated handler to streams by their names, which are no patterns."""
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
    ) -> Any:  # see the overloads
        """Register the decorated pydantic model, or a JSON Schema document, as a schema.

        `_id` is by default the class's name, and `@app.schema` without parentheses is the same as
        `@app.schema()`; a document has no name. `retention` is in seconds.
        The topics of `streams` are created at start, with `partitions` and `replication_factor`
        where they differ from the application's.

        Raises:
            SchemaConflictError: the id and version are taken by another model or document.
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
            )
            _check_streams(registration)
            self._add_schema(registration)
            return definition

        return decorate(_id) if isinstance(_id, type) else decorate

    def _add_schema(self, registration: SchemaRegistration) -> None:
        for parent in self._mounted_in:
            parent._add_schema(registration)
        self._schemas.register(registration)

    def mount(self, router: Router) -> None:
        """Add what another router declares, now and later; nothing is replaced.

        Raises:
            SchemaConflictError: both declare one schema differently; nothing was added then.
            ConfigurationError: it is no router, it is mounted here already, or it contains this
                one.
        """
        if not isinstance(router, Router):
            raise ConfigurationError(f"mount() takes a Router, got {type(router).__name__}")
        self._check_mount(router)
        self._schemas.check(router._schemas)
        for registration in router._schemas:
            self._add_schema(registration)
        for subscription in router._subscriptions:
            self._add_subscription(subscription)
        for name, handlers in router._event_handlers.items():
            for handler in handlers:
                self._add_event_handler(name, handler)
        self._mounted.append(router)
        router._mounted_in.add(self)

    def _check_mount(self, router: Router) -> None:
        """Refuse a mount after which a handler would be declared twice, or without end."""
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
        """This router and all that are mounted in it, however deep."""
        yield self
        for router in self._mounted:
            yield from router._all_mounted()

    def _all_places(self) -> Iterator[Router]:
        """This router and all that it is mounted in, however high."""
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
                f"schema {registration.id!r}: stream {stream!r} cannot be a topic; {RULE}",
                schema=registration.id,
            )

"""What a service declares before it runs: schemas, subscriptions and event handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from pydantic import BaseModel

from .errors import ConfigurationError, SubscriptionError
from .schema.registration import SchemaRegistration
from .schema.registry import Schemas
from .subscription import Handler, OnError, Ordering, Subscription

__all__ = ["EventHandler", "Router"]

EventHandler = Callable[[], Awaitable[None]]
Event = Literal["initialize", "finalize"]
H = TypeVar("H", bound=Handler)
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

    Mounted into an application with `app.mount(router)`; an application is a router itself.
    """

    def __init__(self) -> None:
        self._schemas = Schemas()
        self._subscriptions: list[Subscription] = []
        self._event_handlers: dict[str, list[EventHandler]] = {}

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What was subscribed, in order."""
        return tuple(self._subscriptions)

    @property
    def schemas(self) -> Mapping[str, SchemaRegistration]:
        """What was registered, by name: "Content:1"."""
        return {registration.key: registration for registration in self._schemas}

    def on(self, name: Event, handler: EventHandler) -> EventHandler:
        """Call `handler` when the application has started ("initialize") or stops ("finalize").

        Raises:
            ConfigurationError: there is no event of this name.
        """
        if name not in ("initialize", "finalize"):
            raise ConfigurationError(f"no event {name!r}; use 'initialize' or 'finalize'")
        self._event_handlers.setdefault(name, []).append(handler)
        return handler

    def subscribe(
        self, stream_id: str, group: str | None = None, **options: Unpack[SubscriptionOptions]
    ) -> Callable[[H], H]:
        """Subscribe the decorated handler to the streams that match an fnmatch pattern.

        `group` is the consumer group, by default the handler's function name. For the options
        see `Subscription`, here and in the two other ways to subscribe.
        """
        return self._subscribe(group, options, pattern=stream_id)

    def subscribe_to_pattern(
        self, pattern: str, group: str | None = None, **options: Unpack[SubscriptionOptions]
    ) -> Callable[[H], H]:
        """The same as `subscribe`."""
        return self._subscribe(group, options, pattern=pattern)

    def subscribe_to_topics(
        self,
        topics: Sequence[str],
        group: str | None = None,
        **options: Unpack[SubscriptionOptions],
    ) -> Callable[[H], H]:
        """Subscribe the decorated handler to streams by their names, which are no patterns."""
        return self._subscribe(group, options, topics=topics)

    def _subscribe(
        self,
        group: str | None,
        options: SubscriptionOptions,
        *,
        pattern: str | None = None,
        topics: Sequence[str] | None = None,
    ) -> Callable[[H], H]:
        if unknown := sorted(options.keys() - SubscriptionOptions.__annotations__.keys()):
            known = ", ".join(SubscriptionOptions.__annotations__)
            raise SubscriptionError(f"subscribe() has no option {unknown[0]!r}; known: {known}")

        def decorate(func: H) -> H:
            name = group or str(getattr(func, "__name__", ""))
            arguments: dict[str, Any] = {**options}
            arguments["skip_plugins"] = frozenset(arguments.get("skip_plugins", ()))
            subscription = Subscription(
                name, func, name, pattern=pattern, topics=topics, **arguments
            )
            self._add_subscription(subscription)
            return func

        return decorate

    def _add_subscription(self, subscription: Subscription) -> None:
        self._subscriptions.append(subscription)

    def schema(
        self,
        _id: str | None = None,
        *,
        version: int | None = None,
        retention: int | None = None,
        streams: Sequence[str] | None = None,
        partitions: int | None = None,
        replication_factor: int | None = None,
    ) -> Callable[[S], S]:
        """Register the decorated pydantic model, or a JSON Schema document, as a schema.

        `_id` is by default the class's name; a document has none. `retention` is in seconds.
        The topics of `streams` are created at start, with `partitions` and `replication_factor`
        where they differ from the application's.

        Raises:
            SchemaConflictError: the id and version are taken by another model or document.
        """

        def decorate(definition: S) -> S:
            self._add_schema(
                SchemaRegistration(
                    _id or str(getattr(definition, "__name__", "")),
                    1 if version is None else version,
                    model=definition if isinstance(definition, type) else None,
                    document=None if isinstance(definition, type) else definition,
                    retention=retention,
                    streams=() if streams is None else streams,
                    partitions=partitions,
                    replication_factor=replication_factor,
                )
            )
            return definition

        return decorate

    def _add_schema(self, registration: SchemaRegistration) -> None:
        self._schemas.register(registration)

    def mount(self, router: Router) -> None:
        """Add what another router declares; nothing is replaced.

        Raises:
            SchemaConflictError: both declare one schema differently; nothing was added then.
            ConfigurationError: it is no router.
        """
        if not isinstance(router, Router):
            raise ConfigurationError(f"mount() takes a Router, not {type(router).__name__}")
        self._schemas.check(router._schemas)
        for registration in router._schemas:
            self._add_schema(registration)
        for subscription in router._subscriptions:
            self._add_subscription(subscription)
        for name, handlers in router._event_handlers.items():
            self._event_handlers.setdefault(name, []).extend(handlers)

"""The consumer groups that a service's subscriptions make, with their handlers bound."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from .consumer.group import GroupConsumer
from .errors import ConfigurationError, SubscriptionError
from .handlers import (
    ArgumentProviders,
    BatchBinding,
    Binding,
    ConsumerFacade,
    Publish,
    Subscriber,
    bind,
)
from .message import App, IncomingMessage
from .offsets import HandlerResult
from .plugins.contract import did_you_mean
from .plugins.manager import Plugins
from .router import Subscription
from .runtime import Runtime
from .schema.registry import Schemas
from .settings import Settings
from .topic_names import TOPIC_NAME_RULE, is_topic_name

__all__ = ["Groups"]


class Groups:
    """Binds every handler once, and makes the consumers of each run.

    Raises:
        ConfigurationError: settings of consumers contradict each other.
        SubscriptionError: a handler's annotation cannot be resolved or its parameter not filled,
            or a setting of its own contradicts another of the application's.
    """

    def __init__(
        self,
        app: App,
        publish: Publish,
        schemas: Schemas,
        plugins: Plugins,
        subscriptions: Iterable[Subscription],
        settings: Settings,
    ) -> None:
        self._app = app
        self._publish = publish
        self._plugins = plugins
        self._bindings: dict[str, dict[Subscription, Binding | BatchBinding]] = {}
        self._consumers: dict[str, GroupConsumer] = {}
        known_plugins = {info.name for info in plugins.list()}
        for subscription in subscriptions:
            _check_overrides(subscription, settings)
            _check_skipped(subscription, known_plugins)
            _check_literals(subscription, settings.topic_prefix)
            bindings = self._bindings.setdefault(subscription.group, {})
            _check_alone(subscription, bindings)
            bindings[subscription] = bind(
                subscription,
                decoder=schemas.decoder,
                known=self._known(subscription.group),
                claim=plugins.bind_parameter,
            )
        if self._bindings:
            settings.check_handover()
        for group, bindings in self._bindings.items():
            _settings_of(group, bindings, settings)

    def consumers(
        self, runtime: Runtime, on_finished: Callable[[HandlerResult], None] | None
    ) -> list[GroupConsumer]:
        """Make one consumer per group; none is started."""
        self._consumers = {
            group: GroupConsumer(
                group,
                bindings,
                topics=runtime.topics,
                settings=_settings_of(group, bindings, runtime.settings),
                servers=runtime.servers,
                blame=self._plugins.raising_plugin,
                on_finished=on_finished,
            )
            for group, bindings in self._bindings.items()
        }
        return list(self._consumers.values())

    def _known(self, group: str) -> ArgumentProviders:
        """What is filled in by the parameter's name."""
        return ArgumentProviders(
            one={
                "schema": lambda message: message.schema,
                "record": lambda message: message.record,
                "app": lambda _: self._app,
                "subscriber": lambda message: self._subscriber(group, (message,)),
            },
            batch={
                "app": lambda _: self._app,
                "subscriber": partial(self._subscriber, group),
            },
        )

    def _subscriber(self, group: str, messages: Sequence[IncomingMessage]) -> Subscriber:
        consumer = self._consumers[group]
        facade = ConsumerFacade(messages, consumer.commit_through, consumer.raw)
        return Subscriber(messages, group, self._publish, facade)


def _check_overrides(subscription: Subscription, settings: Settings) -> None:
    try:
        settings.with_overrides(subscription.overrides)
    except ConfigurationError as error:
        raise SubscriptionError(f"handler {subscription.handler_name}: {error}") from error


def _check_skipped(subscription: Subscription, known: Collection[str]) -> None:
    for name in sorted(set(subscription.skip_plugins) - set(known)):
        raise SubscriptionError(
            f"handler {subscription.handler_name}: skip_plugins names {name!r}, but no plugin of "
            f"that name is installed or registered{did_you_mean(name, known)} "
            f"(known: {', '.join(sorted(known)) or 'none'})"
        )


def _check_literals(subscription: Subscription, prefix: str) -> None:
    for stream in subscription.literal_streams:
        if not is_topic_name(prefix + stream):
            raise SubscriptionError(
                f"handler {subscription.handler_name}: stream {stream!r} with the topic prefix "
                f"{prefix!r} makes {prefix + stream!r}, which cannot be a topic; {TOPIC_NAME_RULE}"
            )


def _check_alone(subscription: Subscription, others: Iterable[Subscription]) -> None:
    """In one group each stream has one handler: of two, each would get a part of it."""
    for other in others:
        stream = subscription.shared_with(other)
        if stream is not None:
            raise SubscriptionError(
                f"stream {stream!r} is subscribed by {other.handler_name} and by "
                f"{subscription.handler_name} in group {subscription.group!r}, but a group has one "
                "handler per stream; give one of them another group"
            )


def _settings_of(group: str, subscriptions: Iterable[Subscription], settings: Settings) -> Settings:
    """The settings of one group, with the longest times that its subscriptions ask for."""
    own = [settings.with_overrides(subscription.overrides) for subscription in subscriptions]
    longest = {
        name: max(getattr(one, name) for one in own)
        for name in ("drain_timeout", "cancel_grace", "commit_timeout")
    }
    try:
        return settings.with_overrides(longest)
    except ConfigurationError as error:
        raise SubscriptionError(f"group {group}: {error}") from error

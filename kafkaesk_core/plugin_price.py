"""Measures the time that each plugin's hooks take per call, for `kafkaesk plugins --price`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from .app_protocol import App
from .delivery import Delivery
from .message import IncomingMessage, OutgoingMessage
from .plugin import acknowledged_delivery
from .plugins.manager import Plugins
from .router import Subscription
from .structs import ConsumerRecord, RecordMetadata, TopicPartition

__all__ = ["Price", "price_plugins"]

CALLS = 500
ROUNDS = 9
"""The number of rounds; the fastest counts, because other load only adds time."""
PARTITION = TopicPartition("price", 0)
VALUE = b'{"schema":"Price:1","data":{}}'
METADATA = RecordMetadata("price", 0, PARTITION, 0, 0, 0, 0)
RECORD = ConsumerRecord("price", 0, 0, 0, 0, None, VALUE, -1, -1, len(VALUE), ())

# Any below: what a hook is called with, and returns, differs by hook.
Call = Callable[[Any], Awaitable[Any]]


class Price(NamedTuple):
    """The time of one call of a plugin's hook; `problem` says why there is no measurement."""

    hook: str
    plugin: str
    microseconds: float
    problem: str = ""


async def price_plugins(
    plugins: Plugins, subscriptions: Sequence[Subscription], app: App
) -> list[Price]:
    """Time each plugin's layers and observers separately, minus the empty operation.

    The application is not started: no lifespan is entered and no broker is reached. The consuming
    hooks are called for the first subscription. If a layer fails under these conditions, it gets a
    problem instead of a price.
    """
    delivery = acknowledged_delivery(METADATA)
    given: list[tuple[str, Callable[[], Any], Delivery | None, dict[str, Any]]] = [
        ("wrap_publish", _outgoing, delivery, {"app": app})
    ]
    if subscriptions:
        constants = {"subscription": subscriptions[0], "app": app}
        given += [
            ("wrap_consume", _incoming, None, constants),
            ("wrap_consume_batch", lambda: [_incoming()], None, constants),
            ("wrap_commit", lambda: {PARTITION: 1}, None, {**constants, "reason": "interval"}),
        ]
    found = []
    for hook, subject, result, constants in given:

        async def nothing(_: Any, result: Delivery | None = result) -> Delivery | None:
            return result

        names = plugins.layers(hook)
        for name in names:
            layer = plugins.chain(hook, nothing, skip={*names} - {name}, **constants)
            found.append(await _price(hook, name, subject, layer, nothing))
    return [*found, *await _price_observers(plugins, app)]


async def _price_observers(plugins: Plugins, app: App) -> list[Price]:
    names = plugins.layers("published")
    found = []
    for name in names:
        notify = plugins.notifier("published", skip={*names} - {name}, app=app)

        async def observed(message: OutgoingMessage, notify: Any = notify) -> None:
            notify(message, METADATA, None)

        async def unobserved(message: OutgoingMessage) -> None:
            pass

        found.append(await _price("published", name, _outgoing, observed, unobserved))
    return found


async def _price(
    hook: str, plugin: str, subject: Callable[[], Any], with_plugin: Call, without: Call
) -> Price:
    try:
        spent = await _time(subject, with_plugin) - await _time(subject, without)
    except Exception as error:  # of the plugin, whose lifespan was not entered
        return Price(hook, plugin, 0.0, f"{type(error).__name__}: {error}")
    return Price(hook, plugin, max(0.0, spent))


async def _time(subject: Callable[[], Any], call: Call) -> float:
    """Return the microseconds per call; each call gets a new subject."""
    rounds = []
    for _ in range(ROUNDS):
        subjects = [subject() for _ in range(CALLS)]
        began = time.perf_counter()
        for each in subjects:
            await call(each)
        rounds.append(time.perf_counter() - began)
    return 1e6 * min(rounds) / CALLS


def _outgoing() -> OutgoingMessage:
    return OutgoingMessage("price", "price", VALUE)


def _incoming() -> IncomingMessage:
    return IncomingMessage(RECORD, "price")

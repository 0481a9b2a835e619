"""The tools for plugin authors beside the hooks; all of them are public and stay compatible.

`kafkaesk_core` itself exports the hooks, the messages and the errors. A plugin imports from there
and from here, and from no other module of the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from .hooks import ConsumeBatchCall, ConsumeCall, Stage, hookimpl
from .message import IncomingMessage, copy_headers
from .plugins.chains import CountedFailures
from .schema.codecs import Codec

if TYPE_CHECKING:
    from .app_finder import find_application
    from .bootstrap import open_bootstrap
    from .kafka.diagnose import diagnose
    from .kafka.errors import translate as translate_error
    from .plugin_deliveries import PendingDelivery, acknowledged_delivery
    from .router import Subscription, set_option

__all__ = [
    "Codec",
    "CountedFailures",
    "HandledMessages",
    "NoteHandledMessages",
    "PendingDelivery",
    "acknowledged_delivery",
    "copy_headers",
    "diagnose",
    "find_application",
    "handled_messages",
    "open_bootstrap",
    "set_option",
    "translate_error",
]


class HandledMessages(NamedTuple):
    """The messages that a handler was called for: one message, or a batch in order."""

    messages: Sequence[IncomingMessage]
    group: str


_HANDLED: ContextVar[HandledMessages | None] = ContextVar("kafkaesk_handled", default=None)


def handled_messages() -> HandledMessages | None:
    """Return the messages being handled in this context; None outside a handler.

    They are noted only while a plugin that derives from `NoteHandledMessages` is active.
    """
    return _HANDLED.get()


class NoteHandledMessages:
    """Layers that note the handled messages for `handled_messages`; a plugin derives from this.

    A plugin with its own layers around handlers overrides these methods and calls them.
    """

    stage: Stage = "observe"

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:  # what the handler returns
        """Note the message while it is handled."""
        token = _HANDLED.set(HandledMessages((message,), subscription.group))
        try:
            return await call_next(message)
        finally:
            _HANDLED.reset(token)

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
    ) -> Any:  # what the handler returns
        """Note the batch while it is handled."""
        token = _HANDLED.set(HandledMessages(messages, subscription.group))
        try:
            return await call_next(messages)
        finally:
            _HANDLED.reset(token)


# --- tools that import the application or its client, each at its first use: `kafkaesk plugins`
# imports all plugins, and needs neither

_PLACES = {
    "PendingDelivery": ("plugin_deliveries", "PendingDelivery"),
    "acknowledged_delivery": ("plugin_deliveries", "acknowledged_delivery"),
    "diagnose": ("kafka.diagnose", "diagnose"),
    "find_application": ("app_finder", "find_application"),
    "open_bootstrap": ("bootstrap", "open_bootstrap"),
    "set_option": ("router", "set_option"),
    "translate_error": ("kafka.errors", "translate"),
}
"""The names by module and by their name there."""


def __getattr__(name: str) -> Any:  # of the names above
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    found = globals()[name] = getattr(import_module(f".{module}", __package__), attribute)
    return found


def __dir__() -> list[str]:
    return __all__

"""What the plugin costs while nothing fails, counted: one layer, and no call in it."""

from __future__ import annotations

import sys
from typing import Any

from kafkaesk_core import Application, IncomingMessage, hookimpl
from kafkaesk_retry import RetryPlugin, retries

MESSAGES = 100


class Bare:
    """A layer that does nothing."""

    stage = "recover"

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any, subscription: Any, app: Any) -> Any:
        return await call_next(message)


async def calls(*plugins: object, switched_off: bool = False) -> float:
    """Python calls per message that the layers around a handler make."""
    app = Application(entry_points=False, plugins=list(plugins))

    async def handle(data: bytes) -> None: ...

    handler = retries(attempts=1, dead_letter=False)(handle) if switched_off else handle
    app.subscribe("in", "g")(handler)
    (subscription,) = app.subscriptions

    async def innermost(message: IncomingMessage) -> None: ...

    chain = app.plugins.chain("wrap_consume", innermost, subscription=subscription, app=app)
    message: Any = FirstAttempt()
    await chain(message)
    counted = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal counted
        counted += event == "call"

    sys.setprofile(count)
    try:
        for _ in range(MESSAGES):
            await chain(message)
    finally:
        sys.setprofile(None)
    return counted / MESSAGES


class FirstAttempt:
    """All that is looked at of a message that does not fail."""

    attempt = 1


async def test_while_nothing_fails_the_plugin_costs_one_layer_and_no_more() -> None:
    bare = await calls(Bare())

    assert await calls(RetryPlugin()) == bare
    assert await calls(RetryPlugin(), switched_off=True) == bare
    assert await calls() < bare

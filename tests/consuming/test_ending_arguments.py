"""Arguments with an end: a plugin's `@asynccontextmanager` around the call of the handler."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import Parameter
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import Application, IncomingMessage, Skip, hookimpl


class Order(BaseModel):
    number: int


class Session:
    """What the plugin gives handlers, one for each call."""


class Client:
    """What the plugin shares: it could be entered, which would close it for the others."""

    async def __aenter__(self) -> Client:
        raise AssertionError("a shared client is not entered")

    async def __aexit__(self, *error: object) -> None: ...


class Sessions:
    """Opens a session for each call, and notes what happens."""

    def __init__(self, *, suppresses: bool = False) -> None:
        self.log: list[str] = []
        self.client = Client()
        self._suppresses = suppresses

    @hookimpl
    def bind_parameter(self, parameter: Parameter) -> Callable[[IncomingMessage], Any] | None:
        if parameter.annotation is Client:
            return lambda _: self.client
        if parameter.annotation is Session:
            return self.session if parameter.name == "session" else functools.partial(self.session)
        return None

    @asynccontextmanager
    async def session(self, message: IncomingMessage) -> AsyncIterator[Session]:
        self.log.append(f"open {message.offset}")
        try:
            yield Session()
        except BaseException as error:
            self.log.append(f"close {message.offset} with {type(error).__name__}")
            if not self._suppresses:
                raise
        else:
            self.log.append(f"close {message.offset}")

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: Any) -> Any:
        self.log.append("layer")
        try:
            return await call_next(message)
        finally:
            self.log.append("end of layer")


def new_app(plugin: Sessions) -> Application:
    app = Application(plugins=[plugin], entry_points=False)
    app.schema("Order", streams=["orders"])(Order)
    return app


async def test_a_context_is_open_while_the_handler_runs_inside_of_the_layers() -> None:
    plugin = Sessions()
    app = new_app(plugin)

    @app.subscribe("orders", "billing")
    async def bill(
        order: Order, schema: str, session: Session, second: Session, client: Client
    ) -> None:
        assert isinstance(session, Session)
        assert session is not second
        assert client is plugin.client
        plugin.log.append(f"handle {schema}")

    result = await app.handle("orders", Order(number=1), offset=5)

    assert result.kind == "done"
    inside = ["open 5", "open 5", "handle Order:1", "close 5", "close 5"]
    assert plugin.log == ["layer", *inside, "end of layer"]


@pytest.mark.parametrize("error", [LookupError("no customer"), Skip("no")])
async def test_a_context_is_left_with_the_exception_of_the_handler(error: BaseException) -> None:
    plugin = Sessions()
    app = new_app(plugin)

    @app.subscribe("orders", "billing")
    async def bill(order: Order, session: Session) -> None:
        raise error

    result = await app.handle("orders", Order(number=1))

    assert result.error is error
    assert plugin.log[1:3] == ["open 0", f"close 0 with {type(error).__name__}"]


async def test_a_context_that_suppresses_the_exception_has_processed_the_message() -> None:
    plugin = Sessions(suppresses=True)
    app = new_app(plugin)

    @app.subscribe("orders", "billing")
    async def bill(order: Order, session: Session) -> None:
        raise LookupError("no customer")

    assert (await app.handle("orders", Order(number=1))).kind == "done"


async def test_data_that_cannot_be_decoded_opens_nothing() -> None:
    plugin = Sessions()
    app = new_app(plugin)

    @app.subscribe("orders", "billing")
    async def bill(order: Order, session: Session) -> None: ...

    assert (await app.handle("orders", b"{")).kind == "stop"
    assert plugin.log == ["layer", "end of layer"]


async def test_a_batch_has_one_context_and_so_has_a_thread() -> None:
    plugin = Sessions()
    app = new_app(plugin)

    @app.subscribe("orders", "archive")
    def store(orders: list[Order], session: Session) -> None:
        plugin.log.append(f"store {len(orders)}")

    assert (await app.handle("orders", Order(number=1), offset=9)).kind == "done"
    assert plugin.log == ["open 9", "store 1", "close 9"]

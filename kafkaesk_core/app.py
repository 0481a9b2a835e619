"""The application: what a service declares, publishes with and runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from .delivery import Delivery
from .errors import (
    ConfigurationError,
    NotRunningError,
)
from .event_loop import check_loop
from .groups import Groups
from .outcome import Outcome
from .publishing import Publishing
from .runtime import Runtime
from .schema.registry import SchemaRegistration
from .settings import Settings
from .subscription import Subscription, is_count, is_number

__all__ = ["Application"]


class Application(Publishing):
    """Publishes and consumes; declare on it, then `async with app`, or the command `kafkaesk`.

    For the arguments see Configuration and Settings.
    """

    _starter: asyncio.Task[Any] | None = None
    _stop_requests = 0

    @cached_property
    def _starting(self) -> asyncio.Lock:
        return asyncio.Lock()

    def _check_stopped(self) -> None:
        if self._runtime is not None:
            raise NotRunningError("configure() an application before it starts, or after its end")

    def _plugins_changed(self) -> None:
        if self._runtime is not None and self._runtime.is_open:
            self._runtime.compile()

    def _add_schema(self, registration: SchemaRegistration) -> None:
        super()._add_schema(registration)
        self.plugins.declare_schema(registration, self)

    def _add_subscription(self, subscription: Subscription) -> None:
        if self.is_consuming:
            raise NotRunningError(
                f"{subscription!r} comes too late: the application consumes already"
            )
        super()._add_subscription(subscription)
        if self._runtime is not None:
            try:
                self._bind(self._runtime.settings)
            except BaseException:
                self._subscriptions.remove(subscription)
                raise

    # --- lifecycle

    async def initialize(self) -> None:
        """Load plugins, check everything, connect, create topics; what fails is undone.

        Idempotent, and safe to be called by several tasks at once.

        Raises:
            ConfigurationError: settings, handlers or schemas cannot work.
            PluginError: a plugin cannot be loaded.
            BrokerError: no broker could be reached within `start_timeout`, or it refuses us.
        """
        check_loop(self.loop, "initialize()")
        self._check_not_starting("initialize it again, or publish,")
        async with self._starting:
            if self._runtime is None:
                self._starter = asyncio.current_task()
                try:
                    await self._start()
                finally:
                    self._starter = None

    async def _start(self) -> None:
        settings = self.settings
        settings.check()
        self.load_plugins()
        self._bind(settings)
        runtime = Runtime(self, settings, self.plugins, self._schemas, self._event_handlers)
        self._runtime = runtime
        try:
            await runtime.start()
        except BaseException:
            self._runtime = None
            raise

    def _bind(self, settings: Settings) -> None:
        """Bind the handlers that are declared now."""
        self._groups = Groups(
            self,
            self._publish_of_handler,
            self._schemas,
            self.plugins,
            self._subscriptions,
            settings,
        )

    async def _publish_of_handler(self, *arguments: Any, **options: Any) -> Delivery:
        """As `publish`; but a handler that outlived its run starts no other one."""
        if self._runtime is None:
            raise NotRunningError("the application has ended: what a handler publishes now is lost")
        return await self.publish(*arguments, **options)

    async def finalize(self) -> None:
        """Stop consuming, call the "finalize" handlers, deliver what is buffered, disconnect.

        Idempotent; what was started by then is undone, a start in progress is waited for.
        """
        check_loop(self.loop, "finalize()")
        self._check_not_starting("finalize it")
        async with self._starting:
            runtime = self._runtime
            if runtime is not None:
                try:
                    await runtime.stop()
                finally:
                    self._runtime = None

    def _check_not_starting(self, attempted: str) -> None:
        """The task that starts the application would wait for itself."""
        if self._starter is not None and self._starter is asyncio.current_task():
            raise NotRunningError(
                f"the application is starting, so what starts it cannot {attempted}; "
                "publish in an 'initialize' handler, and raise to stop the start"
            )

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.finalize()

    async def _running(self) -> Runtime:
        runtime = self._runtime
        check_loop(self.loop, "publishing or consuming")
        if runtime is None or not runtime.is_open:
            await self.initialize()
            runtime = self._runtime
        if runtime is None:
            raise NotRunningError("the application was stopped while it started")
        return runtime

    # --- consume

    def consume_for(
        self, num_messages: int, *, seconds: float | None = None
    ) -> Coroutine[Any, Any, int]:
        """Consume until so many messages are finished with, or `seconds` are over.

        Returns how many were handled or skipped; handlers that run at the same time may make it
        more than asked for. A `stop()` counts from this call on, even before it is awaited.

        Raises:
            HandlerError: a handler failed and its subscription does not go on.
            ConfigurationError: there is nothing to wait for.
        """
        if not is_count(num_messages):
            raise ConfigurationError(f"consume_for({num_messages!r}): give 1 message or more")
        if seconds is not None and not (is_number(seconds) and seconds > 0):
            raise ConfigurationError(f"consume_for(seconds={seconds!r}): give more than 0, or None")
        return self._consume_for(num_messages, seconds, self._stop_requests)

    async def _consume_for(
        self, num_messages: int, seconds: float | None, stop_requests: int
    ) -> int:
        consumed = 0

        def count(_: Outcome) -> None:
            nonlocal consumed
            consumed += 1
            if consumed >= num_messages and runtime.consumption is not None:
                runtime.consumption.request_stop()

        runtime = await self._running()
        if stop_requests == self._stop_requests:
            await self._consume(runtime, count, seconds)
        return consumed

    def consume_forever(self) -> Coroutine[Any, Any, None]:
        """Consume until `stop()`, which counts from this call on, even before it is awaited.

        Raises:
            HandlerError: a handler failed and its subscription does not go on.
            BrokerError: a group cannot be joined, or its membership cannot be kept.
        """
        return self._consume_forever(self._stop_requests)

    async def _consume_forever(self, stop_requests: int) -> None:
        runtime = await self._running()
        if stop_requests == self._stop_requests:
            await self._consume(runtime, None, None)

    async def _consume(
        self, runtime: Runtime, count: Callable[[Outcome], None] | None, seconds: float | None
    ) -> None:
        consumption = runtime.consumption_of(self._groups.consumers(runtime, count))
        try:
            await consumption.run(start_timeout=runtime.settings.start_timeout, seconds=seconds)
        finally:
            await runtime.stop_consuming()
        failure = consumption.failure()
        if failure is not None:
            raise failure

    async def stop(self) -> None:
        """Stop consuming: take no more, finish, commit, leave the groups.

        Idempotent and safe to be called at any time by several tasks; `consume_forever` returns,
        also if the application is still starting.
        """
        self._stop_requests += 1
        runtime = self._runtime
        check_loop(self.loop, "stop()")
        if runtime is not None:
            runtime.is_stop_requested = not runtime.is_open
            await runtime.stop_consuming()

"""The plugin: spans and metrics around what the application does, and contexts in its headers."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import Parameter
from typing import Any

from aiokafka.structs import TopicPartition
from opentelemetry.context import attach, detach, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NoOpTracer, Span, TracerProvider

from kafkaesk_core import (
    App,
    CommitCall,
    ConsumeBatchCall,
    ConsumeCall,
    Delivery,
    IncomingMessage,
    OutgoingMessage,
    PublishCall,
    Subscription,
    hookimpl,
)
from kafkaesk_core.plugin import CountedFailures

from .instruments import Instruments
from .listening import aiokafka_is_instrumented, is_disabled, meter_of, tracer_of
from .operation import Telemetry
from .processing import OnProcess, Processing, current_process_span
from .propagation import Propagation
from .sending import OnSend, Sending, explicit_fields
from .settings import OTelSettings
from .settling import Settling
from .views import Views

__all__ = ["OTelPlugin"]

logger = logging.getLogger("kafkaesk.otel")

LOOK_AGAIN = 1.0
"""Seconds after which to look again for what of an SDK was not there."""


class OTelPlugin:
    """Traces and measures; where no SDK listens it only hands contexts on.

    The providers and the propagator are the global ones unless given. `on_send` and `on_process`
    are told of every span that is recorded, with its message, to add attributes.
    """

    name = "otel"
    stage = "observe"
    Settings = OTelSettings

    def __init__(
        self,
        settings: OTelSettings | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        on_send: OnSend | None = None,
        on_process: OnProcess | None = None,
    ) -> None:
        self.settings = settings or OTelSettings()
        self._providers = tracer_provider, meter_provider
        self._told = on_send, on_process
        self._failures = CountedFailures(logger, "messages are not affected")
        self._propagation = Propagation(self._failures, propagator)
        self._is_disabled = is_disabled()
        self._is_whole = False
        self._sending: Sending | None = None
        self._processing: Processing | None = None
        self._settling: Settling | None = None
        self._instruments: Instruments | None = None
        self._connect(None)

    @property
    def counts(self) -> Counter[str]:
        """Failures of the plugin itself, by kind; none of them has stopped a message."""
        return self._failures.counts

    @property
    def claimed_headers(self) -> frozenset[str]:
        """The headers that the propagator writes: no other plugin copies them."""
        return frozenset() if self._is_disabled else self._propagation.fields

    def _connect(self, server: str | None) -> None:
        """Take up the tracer and the meter of an SDK, as far as one is there."""
        if self._is_disabled:
            return
        tracer_provider, meter_provider = self._providers
        tracer = tracer_of(tracer_provider)
        meter = meter_of(meter_provider) if self.settings.metrics else None
        self._is_whole = tracer is not None and (meter is not None or not self.settings.metrics)
        if tracer is None and meter is None:
            return
        self._instruments = None if meter is None else Instruments(meter)
        telemetry = Telemetry(
            tracer or NoOpTracer(),
            self._instruments,
            Views(self.settings, self.settings.server_address or server),
            self._propagation,
            self.settings,
            self._failures,
        )
        on_send, on_process = self._told
        self._sending = Sending(telemetry, on_send)
        self._processing = Processing(telemetry, on_process)
        self._settling = Settling(telemetry)

    # --- lifecycle

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Connect to the SDK, warn of what is traced twice, and watch the lag."""
        server = next(iter(app.servers), None)
        self._connect(server)
        if not self._is_disabled and aiokafka_is_instrumented():
            logger.warning(
                "opentelemetry-instrumentation-aiokafka is active too: it adds spans named "
                "'... receive' for what kafkaesk polls, beside the spans of kafkaesk; set "
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=aiokafka unless other parts of the service "
                "need it"
            )
        watching = asyncio.get_running_loop().create_task(
            self._watch(app, server), context=contextvars.Context()
        )
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, app: App, server: str | None) -> None:
        """Look for an SDK that is set up later, and at the lag."""
        clock, interval = asyncio.get_running_loop().time, self.settings.lag_interval
        due = clock() + interval
        while not self._is_disabled:
            await asyncio.sleep(min(LOOK_AGAIN, interval))
            try:
                if not self._is_whole:
                    self._connect(server)
                if self._instruments is not None and clock() >= due:
                    due = clock() + interval
                    self._instruments.show_lag(app.status())
            except Exception as error:
                self._failures.note("watching the lag", error)

    # --- the walk of a message

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Publish in a Send span; without an SDK only hand the context on."""
        if self._sending is not None:
            return await self._sending.around(message, call_next)
        context = get_current()
        if context and not self._is_disabled and self.settings.propagate_producer:
            explicit = explicit_fields(message, self._propagation.fields)
            if not explicit:
                self._propagation.inject(message.headers, context)
        return await call_next(message)

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:
        """Handle in a Process span; without an SDK only with the context that came in."""
        if self._processing is not None:
            return await self._processing.around_one(message, call_next, subscription)
        headers = message.headers
        if not headers or self._is_disabled:
            return await call_next(message)
        current = get_current()
        context = self._propagation.extract(headers, current)
        if context is current:
            return await call_next(message)
        token = attach(context)
        try:
            return await call_next(message)
        finally:
            detach(token)

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
    ) -> Any:
        """Handle a batch in one span, linked with the span that each message was sent in."""
        if self._processing is None:
            return await call_next(messages)
        return await self._processing.around_batch(messages, call_next, subscription)

    @hookimpl
    async def wrap_commit(
        self,
        offsets: Mapping[TopicPartition, int],
        call_next: CommitCall,
        reason: str,
        subscription: Subscription,
    ) -> None:
        """Measure a commit; one by hand gets a span."""
        if self._settling is None:
            return await call_next(offsets)
        return await self._settling.around(offsets, call_next, reason, subscription)

    @hookimpl
    def bind_parameter(self, parameter: Parameter) -> Callable[[IncomingMessage], Span] | None:
        """Fill a handler's parameter that is annotated with `opentelemetry.trace.Span`."""
        if parameter.annotation is not Span:
            return None
        return lambda _: current_process_span()

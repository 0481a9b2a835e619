"""The plugin: spans and metrics for the application's operations, and contexts in headers."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import NoOpTracer, Span

from kafkaesk_core import (
    hookimpl,
)
from kafkaesk_core.plugin import CountedFailures

from .attributes import SpanTemplates
from .commit import CommitSpans
from .metrics import Metrics
from .process import ProcessSpans, current_process_span
from .propagation import Propagation
from .publish import SendSpans, explicit_fields
from .sdk import aiokafka_is_instrumented, is_disabled, meter_of, tracer_of
from .settings import OTelSettings
from .span import Telemetry

if TYPE_CHECKING:
    from aiokafka.structs import TopicPartition
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

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
    )

    from .process import OnProcess
    from .publish import OnSend

__all__ = ["OTelPlugin"]

logger = logging.getLogger("kafkaesk.otel")

LOOK_AGAIN = 1.0
"""Seconds between checks for an SDK that was not set up at the start."""


class OTelPlugin:
    """Traces and measures; without an SDK it only propagates contexts.

    The providers and the propagator default to the global ones. `on_send` and `on_process` are
    called with every recorded span and its message, so that they can add attributes.
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
        self._callbacks = on_send, on_process
        self._failures = CountedFailures(logger, "messages are not affected")
        self._propagation = Propagation(self._failures, propagator)
        self._is_disabled = is_disabled()
        self._is_whole = False
        self._sends: SendSpans | None = None
        self._processes: ProcessSpans | None = None
        self._commits: CommitSpans | None = None
        self._metrics: Metrics | None = None
        self._connect(None)

    @property
    def counts(self) -> Counter[str]:
        """The plugin's own failures by kind; no failure has stopped a message."""
        return self._failures.counts

    @property
    def claimed_headers(self) -> frozenset[str]:
        """The headers that the propagator writes; no other plugin copies them."""
        return frozenset() if self._is_disabled else self._propagation.fields

    def _connect(self, server: str | None) -> None:
        """Use the tracer and the meter of the SDK, if an SDK is set up."""
        if self._is_disabled:
            return
        tracer_provider, meter_provider = self._providers
        tracer = tracer_of(tracer_provider)
        meter = meter_of(meter_provider) if self.settings.metrics else None
        self._is_whole = tracer is not None and (meter is not None or not self.settings.metrics)
        if tracer is None and meter is None:
            return
        self._metrics = None if meter is None else Metrics(meter)
        telemetry = Telemetry(
            tracer or NoOpTracer(),
            self._metrics,
            SpanTemplates(self.settings, self.settings.server_address or server),
            self._propagation,
            self.settings,
            self._failures,
        )
        on_send, on_process = self._callbacks
        self._sends = SendSpans(telemetry, on_send)
        self._processes = ProcessSpans(telemetry, on_process)
        self._commits = CommitSpans(telemetry)

    # --- lifecycle

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Connect to the SDK, warn if messages are traced twice, and watch the lag."""
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
        """Check for an SDK that is set up later, and record the lag."""
        clock, interval = asyncio.get_running_loop().time, self.settings.lag_interval
        due = clock() + interval
        while not self._is_disabled:
            await asyncio.sleep(min(LOOK_AGAIN, interval))
            try:
                if not self._is_whole:
                    self._connect(server)
                if self._metrics is not None and clock() >= due:
                    due = clock() + interval
                    self._metrics.show_lag(app.status())
            except Exception as error:
                self._failures.note("watching the lag", error)

    # --- the walk of a message

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        """Publish in a Send span; without an SDK, only propagate the context."""
        if self._sends is not None:
            return await self._sends.around(message, call_next)
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
        """Handle the message in a Process span; without an SDK, only in the headers' context."""
        if self._processes is not None:
            return await self._processes.around_one(message, call_next, subscription)
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
        """Handle a batch in one span, with links to the spans in which its messages were sent."""
        if self._processes is None:
            return await call_next(messages)
        return await self._processes.around_batch(messages, call_next, subscription)

    @hookimpl
    async def wrap_commit(
        self,
        offsets: Mapping[TopicPartition, int],
        call_next: CommitCall,
        reason: str,
        subscription: Subscription,
    ) -> None:
        """Measure a commit; create a span for a manual commit."""
        if self._commits is None:
            return await call_next(offsets)
        return await self._commits.around(offsets, call_next, reason, subscription)

    @hookimpl
    def bind_parameter(self, parameter: Parameter) -> Callable[[IncomingMessage], Span] | None:
        """Fill a handler's parameter that is annotated with `opentelemetry.trace.Span`."""
        if parameter.annotation is not Span:
            return None
        return lambda _: current_process_span()

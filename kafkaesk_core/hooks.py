"""All hooks of the core: hook API 1.

A hook's name shows which of three kinds it is:

  wrap_*      async, (subject, call_next, ...): a layer around an operation, compiled at the start.
  past tense  plain def: called after an event. It cannot change the event; its errors are logged.
  lifespan    returns an async context manager that is open while the application runs.

An implementation of a `wrap_*` hook takes the first two arguments in this order, and any of the
others by name. An argument with a default is passed if this core has it. A layer must be
repeatable, because a layer around it may call `call_next` a second time (a retry).

The core reads these attributes of a plugin; all are optional:

  stage            the place of its layers: "observe" (outermost), "recover", "transform", or
                   "deliver". In the stage "deliver", `wrap_publish` runs after the encoding:
                   `message.encoded` has the final bytes, and the layer may replace them. The
                   default is "transform"; a service's own hooks without a stage are innermost.
  hook_api         the hook API that the plugin was written for; only HOOK_API is accepted.
  claimed_headers  the names of headers that it owns; nothing else copies or overwrites them.
  claimed_streams  fnmatch patterns of the streams that it owns. Subscriptions by pattern do not
                   take these streams; subscriptions by literal names do.
  claimed_options  the names of the `options` of `subscribe` and `schema` that it reads.
  starts_early     its `lifespan` is entered before the brokers are reached, and left after they are
                   disconnected. It is meant for plugins that must respond while a start waits.
  name             its name, if it is registered without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Literal

import pluggy

if TYPE_CHECKING:
    from .app_protocol import App
    from .delivery import Delivery
    from .message import IncomingMessage, OutgoingMessage, RebalanceEvent
    from .router import Router, Subscription
    from .schema.codecs import Codec
    from .schema.registry import SchemaRegistration
    from .structs import RecordMetadata, TopicPartition

__all__ = [
    "HOOK_API",
    "CommitCall",
    "ConsumeBatchCall",
    "ConsumeCall",
    "Hooks",
    "PublishCall",
    "SchemaCall",
    "Stage",
    "hookimpl",
    "hookspec",
]

HOOK_API = 1
hookspec = pluggy.HookspecMarker("kafkaesk")
hookimpl = pluggy.HookimplMarker("kafkaesk")

Stage = Literal["observe", "recover", "transform", "deliver"]
PublishCall = Callable[["OutgoingMessage"], Awaitable["Delivery"]]
ConsumeCall = Callable[["IncomingMessage"], Awaitable[Any]]
ConsumeBatchCall = Callable[[Sequence["IncomingMessage"]], Awaitable[Any]]
CommitCall = Callable[[Mapping["TopicPartition", int]], Awaitable[None]]
SchemaCall = Callable[["SchemaRegistration"], Awaitable[None]]


class Hooks:
    """The hook specifications; a plugin implements any of them with `@hookimpl`."""

    @hookspec
    async def wrap_publish(
        self,
        message: OutgoingMessage,
        call_next: PublishCall,
        app: App,
    ) -> Delivery:
        """Wrap one publish, up to the producer's buffer; `published` reports the outcome.

        Runs in the publisher's task, outermost stage first, before the data is encoded and
        validated. It may change the message in place, or pass another message with the same `meta`
        to `call_next`. It returns the delivery that `call_next` returned; await that delivery only
        if every publish should wait for the broker. A layer that publishes elsewhere returns
        `Delivery.settled(metadata)` or `Delivery.deferred(future)` instead. An exception refuses
        the message and is raised to the caller of `publish`. A span opened here covers only
        buffering: pass it on to `published` in `message.meta`.
        """

    @hookspec
    async def wrap_consume(
        self,
        message: IncomingMessage,
        call_next: ConsumeCall,
        subscription: Subscription,
        app: App,
    ) -> Any:
        """Wrap the decoding and handling of one message, in the handler's task and context.

        Runs outermost stage first. `message.value` is the raw bytes; decoding happens inside
        `call_next`, so undecodable messages also pass through here. If the layer returns, the
        message is processed and its offset may be committed, whether or not `call_next` was called.
        If it raises, the message is not processed: a disposition decides by itself, and the
        subscription's `on_error` decides on any other exception. Another call of `call_next`
        handles the message again. Catch Exception, never BaseException. A layer that handles a
        failure itself (in-place retry, dead letter) appends the exception to the list
        `message.meta["handled_errors"]`, so that outer layers can report it. A layer that has
        written the record elsewhere with `app.forward` appends a tuple to the list
        `message.meta["forwarded"]`: the metadata, and the start and end in nanoseconds since 1970.
        """

    @hookspec
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
        app: App,
    ) -> Any:
        """Wrap one batch; called instead of `wrap_consume` for a handler that takes `list[...]`.

        Runs outermost stage first; the messages come from one partition, in order. If the layer
        returns, the batch is processed; messages that were not passed to `call_next` count as
        skipped. After an exception the whole batch is not processed; a `BatchFailure`, from the
        handler or a layer, fails only the messages that it names. A message that cannot be decoded
        fails in a `BatchFailure` of its own; no other message of its batch is tried then.
        """

    @hookspec
    async def wrap_commit(
        self,
        offsets: Mapping[TopicPartition, int],
        call_next: CommitCall,
        reason: str,
        subscription: Subscription,
        app: App,
    ) -> None:
        """Wrap one offset commit; `offsets` are next-to-read positions.

        Runs outermost stage first; `reason` is "interval", "manual", "revoke" or "stop". The
        innermost call lowers each offset to the first unfinished record and drops partitions that
        are not owned; only offsets that the broker acknowledges count. A layer that does not call
        `call_next` postpones the commit. After an exception the offsets stay uncommitted, and the
        next tick retries them. `commit_timeout` covers the whole chain.

        An offset says nothing about the records above it. So if a layer has a stage other than
        "observe", `commit_notes` does not list finished records above the offset.
        """

    @hookspec
    async def wrap_schema(
        self,
        schema: SchemaRegistration,
        call_next: SchemaCall,
        app: App,
    ) -> None:
        """Wrap the activation of one schema, which creates its topics.

        Runs at the start, outermost stage first. Register the schema elsewhere here, or check its
        compatibility. The layer may pass a changed registration to `call_next`. An exception stops
        the start.
        """

    @hookspec
    def schema_registered(self, schema: SchemaRegistration, app: App) -> None:
        """A schema was declared, by a decorator or a mounted router; replayed to later plugins.

        Runs at import time outside any event loop, and inside `register()`, so it may use only what
        `__init__` has set up. It cannot change the schema. Errors are logged and counted; to refuse
        a schema, use `wrap_schema`.
        """

    @hookspec
    def published(
        self,
        message: OutgoingMessage,
        metadata: RecordMetadata | None,
        error: BaseException | None,
        app: App,
    ) -> None:
        """The broker acknowledged the message (`metadata`), or it failed for good (`error`).

        Runs once per message in the event loop, outermost stage first; it must not block. It cannot
        change anything; errors are logged and counted. It costs about a microsecond per message
        once a plugin implements it.
        """

    @hookspec
    def partitions_assigned(
        self, event: RebalanceEvent, subscription: Subscription, app: App
    ) -> None:
        """Partitions were assigned; none of their records has been handled yet. Must not block.

        Runs after the core's own reaction, once per subscription, outermost stage first. It cannot
        change anything; errors are logged and counted.
        """

    @hookspec
    def partitions_revoked(
        self, event: RebalanceEvent, subscription: Subscription, app: App
    ) -> None:
        """Partitions were revoked or lost. Must not block.

        `event.kind` is "revoked" (running records were finished and committed first) or "lost" (the
        group gave them to others). Runs after the core's own reaction, once per subscription,
        outermost stage first. It cannot change anything; errors are logged and counted.
        """

    @hookspec
    def lifespan(self, app: App) -> AbstractAsyncContextManager[None]:
        """Return a context manager, entered before the first message and left after the last one.

        Called at each start. The context managers are entered outermost stage first and left in
        reverse, even if the start fails later. An exception on entering stops the start; an
        exception on leaving is logged.
        """

    @hookspec
    def declare(self, router: Router, app: App) -> None:
        """Subscribe handlers and register schemas of the plugin, on a router mounted for it.

        Called at each start, outermost stage first, before the handlers are bound:
        `app.subscriptions` has the service's own subscriptions, and the plugin's subscriptions of
        an earlier start are removed. A plugin that is registered later is called at the next start.
        An exception stops the start; the error names the plugin.
        """

    @hookspec
    def check_subscription(self, subscription: Subscription) -> None:
        """Check the plugin's options of one subscription; also called if it has none of them.

        Called once per subscription when the application initializes, outermost stage first, unless
        the subscription skips the plugin. Raise a ValueError or ConfigurationError for a wrong
        option: it stops the start with a SubscriptionError that names the handler. A
        SubscriptionError is raised unchanged. Any other exception stops the start as a failure of
        the plugin.
        """

    @hookspec
    def health(self, app: App) -> Iterable[str]:
        """Return the plugin's current problems, one text each; nothing if it works.

        Called by each `app.health()`, outermost stage first, while the application runs; it must
        not block. Each text makes the application degraded, but it stays live and ready. An
        exception is logged and counted, and also makes the application degraded.
        """

    @hookspec
    def report(self, app: App) -> Mapping[str, Any]:
        """Return counts and states of the plugin as JSON-able data.

        Called by each `app.status()`, outermost stage first, while the application runs; it must
        not block or call `app.status()`. `status().plugins` has a copy of the data under the
        plugin's name. An exception is logged and counted; its text takes the place of the data.
        """

    @hookspec
    def bind_parameter(
        self, parameter: Parameter, subscription: Subscription
    ) -> Callable[[IncomingMessage], Any] | None:
        """Claim a handler's parameter that the core does not know.

        Called once per such parameter when the application initializes; `parameter.annotation` is
        resolved. Return a function that takes the message (of a batch, the first one) and returns
        the argument, or None to leave the parameter to others; the first answer wins. An exception
        stops the start. A function decorated with `@asynccontextmanager` yields the argument: it is
        entered inside the layers, after the data is decoded, and left after the handler, with the
        handler's exception. If it suppresses the exception, the message is processed.
        """

    @hookspec
    def upcasters(
        self, schema: SchemaRegistration, subscription: Subscription
    ) -> Mapping[str, Callable[[Any], Any]] | None:
        """Upgrade the data of older schema versions before a handler's model reads it.

        Called once per subscription and schema of its models when the application initializes.
        Return functions by the schema names in records ("Order:1"): each takes the data as
        JSON-able values and returns the data of `schema`. None or an empty mapping leaves records
        unchanged. The outermost answer for a version counts. A record of `schema` itself costs no
        call. An exception in a function fails the record; an exception in the hook stops the start.
        """

    @hookspec
    def codec(self, stream: str, schema: SchemaRegistration | None) -> Codec | None:
        """Return a codec for a format other than the envelope; see `kafkaesk_core.plugin.Codec`.

        Called once per stream and schema, for the first message published or read there. When
        reading, `schema` is the schema of the handler's model, if it has one. The outermost answer
        counts; None means the envelope. Handlers of `bytes` and `ConsumerRecord`, and schemas and
        subscriptions with `envelope=False`, use no codec. A plugin that is registered later is
        asked from the next start on. An exception fails the message.
        """

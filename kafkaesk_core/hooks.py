"""All hooks of the core: hook API 1.

There are three kinds, which the name shows:

  wrap_*      async, (subject, call_next, ...): around an operation. Compiled once, at start.
  past tense  plain def: called after an event. It cannot change the event; its errors are logged.
  lifespan    returns an async context manager, which is open while the application runs.

An implementation takes the first two arguments of a `wrap_*` hook in their order, and any subset of
the others, by name. An argument with a default is passed if this core has it. `call_next` may run a
second time (a retry), so a layer must be repeatable.

The core reads these attributes of a plugin, all of them optional:

  stage            the place of its layers: "observe" (outermost), "recover", "transform", or
                   "deliver", whose `wrap_publish` runs after the encoding: it has the final bytes
                   in `message.encoded`, and may replace them. The default is "transform", and
                   innermost for a service's own hooks.
  hook_api         the hook API that it was written for; only HOOK_API is accepted.
  claimed_headers  the names of headers that it owns; nothing else copies or overwrites them.
  claimed_streams  fnmatch patterns of the streams that it owns. A subscription by pattern does not
                   take them, a subscription by their literal names does.
  claimed_options  the names of the `options` of `subscribe` and `schema` that it reads.
  starts_early     its `lifespan` is entered before the brokers are reached, and left after they are
                   disconnected: for what must answer while a start waits.
  name             its name, if it is registered without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from inspect import Parameter
from typing import Any, Literal

import pluggy

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
PublishCall = Callable[[OutgoingMessage], Awaitable[Delivery]]
ConsumeCall = Callable[[IncomingMessage], Awaitable[Any]]
ConsumeBatchCall = Callable[[Sequence[IncomingMessage]], Awaitable[Any]]
CommitCall = Callable[[Mapping[TopicPartition, int]], Awaitable[None]]
SchemaCall = Callable[[SchemaRegistration], Awaitable[None]]


class Hooks:
    """The hook specifications; a plugin implements any of them with `@hookimpl`."""

    @hookspec
    async def wrap_publish(
        self,
        message: OutgoingMessage,
        call_next: PublishCall,
        app: App,
    ) -> Delivery:
        """Around one publish, up to the producer's buffer (`published` reports the rest).

        Runs in the publisher's task, outermost stage first, before the data is encoded and
        validated. May change the message in place, or hand another one to `call_next` with
        `meta` carried over. Returns what `call_next` returned; await that delivery only if every
        publish shall wait for the broker. A layer that publishes elsewhere returns
        `Delivery.settled(metadata)` or `Delivery.deferred(future)` in its place. An exception
        refuses the message: the caller of `publish` gets it. A span opened here covers buffering
        only: carry it in `message.meta` to `published`.
        """

    @hookspec
    async def wrap_consume(
        self,
        message: IncomingMessage,
        call_next: ConsumeCall,
        subscription: Subscription,
        app: App,
    ) -> Any:
        """Around decoding and handling one message, in the task and context of the handler.

        Runs outermost stage first. `message.value` is the raw bytes; decoding is inside
        `call_next`, so that undecodable messages pass here too. Returning means processed: the
        offset may be committed, whether or not `call_next` was called. An exception means not
        processed: the subscription's `on_error` decides, a disposition decides itself. Calling
        `call_next` again handles the message again. Catch Exception, never BaseException. A layer
        that answers a failure itself (in-place retry, dead letter) appends the exception to the
        list `message.meta["handled_errors"]`, so that layers further out can report it. One that
        has written the record elsewhere with `app.forward` appends to the list
        `message.meta["forwarded"]` a tuple: the metadata, and when it began and ended, in
        nanoseconds since 1970.
        """

    @hookspec
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
        app: App,
    ) -> Any:
        """Instead of `wrap_consume`, for a handler that takes `list[...]`: around one batch.

        Runs outermost stage first; the messages are of one partition, in their order. Returning
        means processed; messages that were not passed to `call_next` count as skipped. An exception
        means that the whole batch is not processed. A `BatchFailure`, from the handler or a layer,
        means that only the messages that it names are not processed. A message that cannot be
        decoded fails as a `BatchFailure` of its own, with no other message of its batch tried.
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
        """Around one offset commit, outermost stage first; `offsets` are next-to-read positions.

        `reason` is "interval", "manual", "revoke" or "stop". The innermost call lowers offsets to
        those that are done and owned, and only offsets that the broker acknowledges count.
        Not calling `call_next` postpones the commit. An exception leaves the offsets uncommitted;
        they are tried again at the next tick. `commit_timeout` covers the whole chain.

        An offset says nothing of the records above it. So a layer of another stage than "observe"
        keeps `commit_notes` from saying that any of them is done.
        """

    @hookspec
    async def wrap_schema(
        self,
        schema: SchemaRegistration,
        call_next: SchemaCall,
        app: App,
    ) -> None:
        """Around activating one schema (its topics are created), at start, outermost stage first.

        The place to register it elsewhere or to check compatibility. It may hand a changed
        registration to `call_next`. An exception stops the start.
        """

    @hookspec
    def schema_registered(self, schema: SchemaRegistration, app: App) -> None:
        """A schema was declared, by decorator or mounted router; replayed to later plugins.

        Runs at import time outside any event loop, and inside `register()`: use only what
        `__init__` set up. Cannot change the schema. Errors are logged and counted; refuse in
        `wrap_schema`.
        """

    @hookspec
    def published(
        self,
        message: OutgoingMessage,
        metadata: RecordMetadata | None,
        error: BaseException | None,
        app: App,
    ) -> None:
        """The broker acknowledged the message (`metadata`), or it finally failed (`error`).

        Runs once per message in the event loop, outermost stage first; must not block. Cannot
        change anything; errors are logged and counted. Costs about a microsecond per message
        once anyone implements it.
        """

    @hookspec
    def partitions_assigned(
        self, event: RebalanceEvent, subscription: Subscription, app: App
    ) -> None:
        """Partitions were assigned; no record of them has been handled yet. Must not block.

        Runs after the core's own reaction, once per subscription, outermost stage first. Cannot
        change anything; errors are logged and counted.
        """

    @hookspec
    def partitions_revoked(
        self, event: RebalanceEvent, subscription: Subscription, app: App
    ) -> None:
        """Partitions are gone. Must not block.

        `event.kind` is "revoked" (finished and committed before) or "lost" (taken away). Runs
        after the core's own reaction, once per subscription, outermost stage first. Cannot
        change anything; errors are logged and counted.
        """

    @hookspec
    def lifespan(self, app: App) -> AbstractAsyncContextManager[None]:
        """Entered before the first message moves, left after the last one.

        Entered outermost stage first and left in reverse, also if the start fails later. An
        exception while entering stops the start; one while leaving is logged.
        """

    @hookspec
    def declare(self, router: Router, app: App) -> None:
        """Subscribe handlers and register schemas of the plugin, on a router mounted for it.

        Called at each start, outermost stage first, before the handlers are bound: what the
        service has declared is in `app.subscriptions`. The subscriptions of an earlier start are
        gone by then. A plugin registered later is called at the next start. An exception stops
        the start, and names the plugin.
        """

    @hookspec
    def check_subscription(self, subscription: Subscription) -> None:
        """Check the plugin's options of one subscription; also of one that has none of them.

        Called once per subscription when the application initialises, unless that skips the
        plugin; outermost stage first.
        A ValueError or ConfigurationError says what is wrong: it stops the start as an error of
        the handler, which is named; a SubscriptionError as it is. Any other exception stops it as
        a failure of the plugin.
        """

    @hookspec
    def health(self, app: App) -> Iterable[str]:
        """Say what hinders the plugin for now; nothing if it works.

        Called by each `app.health()`, outermost stage first, while the application runs; must not
        block. Each text degrades the application, and none makes it not live or not ready. An
        exception is logged and counted, and degrades it too.
        """

    @hookspec
    def report(self, app: App) -> Mapping[str, Any]:
        """Report numbers and states of the plugin, as JSON-able data.

        Called by each `app.status()`, outermost stage first, while the application runs; must not
        block, nor call `app.status()` itself. `status().plugins` has a copy under the plugin's
        name. An exception is logged and counted, and stands there in its place.
        """

    @hookspec
    def bind_parameter(
        self, parameter: Parameter, subscription: Subscription
    ) -> Callable[[IncomingMessage], Any] | None:
        """Claim a handler's parameter that the core does not know.

        Called once per such parameter when the application initialises; `parameter.annotation`
        is resolved. Return a function from the message (of a batch: its first one) to the
        argument, or None to leave the parameter to others; the first answer wins. An exception
        stops the start. A function decorated with `@asynccontextmanager` yields the argument: it
        is entered inside the layers, once the data is decoded, and left after the handler with
        its exception; suppressing that means processed.
        """

    @hookspec
    def upcasters(
        self, schema: SchemaRegistration, subscription: Subscription
    ) -> Mapping[str, Callable[[Any], Any]] | None:
        """Bring data of older versions of a schema up to date, before a handler's model reads it.

        Called once per subscription and schema of its models when the application initialises.
        Return functions by the names that records have ("Order:1"): each takes the data, as JSON
        has it, and returns that of `schema`. None or nothing leaves records as they are. The
        outermost answer for a version counts. A record of `schema` itself costs no call. What a
        function raises is the record's failure; an exception of the hook stops the start.
        """

    @hookspec
    def codec(self, stream: str, schema: SchemaRegistration | None) -> Codec | None:
        """Write and read another form than the envelope; see `kafkaesk_core.plugin.Codec`.

        Called once per stream and schema, when the first message is published or read there; for
        a record, `schema` is that of its handler's model, if it has one. The outermost answer
        counts, None is the envelope. Handlers of `bytes` and `ConsumerRecord`, and schemas and
        subscriptions with `envelope=False`, ask no codec. A plugin that is registered later is
        asked from the next start on. An exception is the message's failure.
        """

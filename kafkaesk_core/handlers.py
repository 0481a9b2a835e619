"""The call of a handler: the binding of its parameters, and the `subscriber` that it may use."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin

from aiokafka import AIOKafkaConsumer

from .delivery import Delivery
from .errors import SubscriptionError
from .message import Data, Header, IncomingMessage
from .router import Subscription, is_async
from .schema.decoding import Reader, affects_validation, reader_of, unwrap_annotation
from .threads import HandlerThreads

__all__ = [
    "Argument",
    "ArgumentProviders",
    "BatchBinding",
    "Binding",
    "Call",
    "ConsumerFacade",
    "Publish",
    "Subscriber",
    "bind",
    "data_of",
    "function_of",
    "takes_batches",
]

T = TypeVar("T")
Messages = Sequence[IncomingMessage]

Argument = Callable[[IncomingMessage], Any]
"""Provides one argument from the message."""

BatchArgument = Callable[[Messages], Any]
"""Provides one argument from the messages of a batch."""

Call = Callable[[IncomingMessage], Awaitable[Any]]
"""Decodes a message and calls the handler with it."""

Claim = Callable[[Parameter, Subscription], Argument | None]

Func = Callable[..., Awaitable[Any]]
"""The handler, or a wrapper that calls it in a thread."""


Read = Callable[[bytes | None], Any]
"""Returns the data of a usual value; None for any other value."""

ReadAll = Callable[[Iterable[bytes | None]], list[Any] | None]
"""Returns the data of usual values; None if any value is unusual."""


@dataclass(frozen=True, slots=True)
class ArgumentProviders:
    """The providers of arguments by parameter name, for one message and for a batch."""

    one: Mapping[str, Argument]
    batch: Mapping[str, BatchArgument]


@dataclass(frozen=True, slots=True)
class Binding:
    """A handler of one message at a time.

    `quick` is a pair: a function that reads a usual value, and a function that takes its data. It
    is used if no parameter needs anything else of the message.
    """

    call: Call
    quick: tuple[Read, Func] | None = None


@dataclass(frozen=True, slots=True)
class BatchBinding:
    """A handler of batches; `call` takes the decoded data and the messages.

    `quick` is as in `Binding`, for the values and the data of a whole batch.
    """

    decode: Argument
    call: Callable[[list[Any], Messages], Awaitable[Any]]
    quick: tuple[ReadAll, Func] | None = None


def bind(
    subscription: Subscription,
    *,
    decoder: Callable[[Any], Argument],
    known: ArgumentProviders,
    claim: Claim,
    threads: HandlerThreads,
) -> Binding | BatchBinding:
    """Resolve a handler's annotations, and return a binding that fills its parameters.

    The annotation of the first parameter chooses the decoder (Parameter.empty: no annotation);
    `list[...]` takes batches. The other parameters are filled by name from `known`, or by a plugin
    that claims them; a parameter with a default may stay unfilled. For a batch, a plugin fills its
    parameter from the first message. A `def` handler is called in a thread.

    Raises:
        SubscriptionError: an annotation cannot be resolved, or a parameter cannot be filled; the
            error names the handler, the parameter and the known names.
    """
    first, *others = _resolve_parameters(subscription)
    item = _item_of(first.annotation)
    func = subscription.func
    if not is_async(func):
        func = threads.wrap(func)
    if item is None:
        _refuse_batch_options(subscription)
        arguments = _arguments(subscription, others, known.one, _itself, claim)
        decode = decoder(first.annotation)
        reader = _reader(decode, arguments)
        quick = None if reader is None else (reader.read, func)
        return Binding(_call(func, decode, arguments), quick)
    _check_batch_ordering(subscription)
    of_batch = _arguments(subscription, others, known.batch, _of_first, claim)
    decode = decoder(item)
    reader = _reader(decode, of_batch)
    quick_batch = None if reader is None else (reader.read_all, func)
    return BatchBinding(decode, _batch_call(func, of_batch), quick_batch)


def _reader(decode: Argument, arguments: Arguments[Any]) -> Reader | None:
    """Return the reader of values without messages; None if an argument needs the message."""
    return None if arguments.values or arguments.contexts else reader_of(decode)


def takes_batches(subscription: Subscription) -> bool:
    """Whether the handler's first parameter is annotated with `list[...]`."""
    return data_of(subscription)[1]


def data_of(subscription: Subscription) -> tuple[Any, bool]:
    """Return the annotation of one message's data, and whether the handler takes batches."""
    first, *_ = _resolve_parameters(subscription)
    item = _item_of(first.annotation)
    return (first.annotation, False) if item is None else (item, True)


def _item_of(annotation: Any) -> Any:
    """Return the item type of a batch handler's list; None if the annotation is not a list."""
    try:
        kind, metadata = unwrap_annotation(annotation)
    except (NameError, RecursionError):
        return None  # the decoder reports the problem
    if kind is not list and get_origin(kind) is not list:
        return None
    if affects_validation(list, metadata):
        raise SubscriptionError(
            f"{annotation!r} validates a whole list, but the size of a batch depends on time and "
            "partition; put the validation on its items: list[Annotated[...]]"
        )
    return next(iter(get_args(kind)), Parameter.empty)


def _refuse_batch_options(subscription: Subscription) -> None:
    for option in ("batch_size", "batch_timeout"):
        if getattr(subscription, option) is not None:
            raise SubscriptionError(
                f"handler {subscription.handler_name}: has {option}, but takes one message at a "
                "time; annotate its first parameter with list[...] to take batches"
            )


def _check_batch_ordering(subscription: Subscription) -> None:
    if subscription.ordering != "partition":
        raise SubscriptionError(
            f"handler {subscription.handler_name}: takes batches and has "
            f"ordering={subscription.ordering!r}; batches are always in the order of their "
            "partition, which keeps that of keys: leave ordering out"
        )


@dataclass(frozen=True, slots=True)
class Arguments(Generic[T]):
    """The argument providers of a handler, by parameter name.

    The providers in `contexts` return async context managers around the call, which yield the
    arguments.
    """

    values: dict[str, T] = field(default_factory=dict)
    contexts: dict[str, T] = field(default_factory=dict)


def _arguments(
    subscription: Subscription,
    parameters: Sequence[Parameter],
    known: Mapping[str, T],
    claimed: Callable[[Argument], T],
    claim: Claim,
) -> Arguments[T]:
    """Return each parameter's argument provider, by name; `claimed` adapts those of plugins."""
    arguments: Arguments[T] = Arguments()
    for parameter in parameters:
        if parameter.name in known:
            arguments.values[parameter.name] = known[parameter.name]
        elif argument := claim(parameter, subscription):
            kind = arguments.contexts if _makes_context(argument) else arguments.values
            kind[parameter.name] = claimed(argument)
        elif _must_be_filled(parameter):
            raise SubscriptionError(
                f"handler {subscription.handler_name}: nothing fills the parameter "
                f"{parameter.name!r}; known are {', '.join(sorted(known))}, and what installed "
                "plugins claim by annotation; rename it or give it a default"
            )
    return arguments


def _makes_context(argument: Argument) -> bool:
    """Whether the provider is decorated with `@asynccontextmanager`.

    Other context managers, such as clients, may be shared objects, so they are not entered.
    """
    inner: Any = argument
    while isinstance(inner, functools.partial):
        inner = inner.func
    return hasattr(inner, "__wrapped__") and inspect.isasyncgenfunction(inspect.unwrap(inner))


def _itself(argument: Argument) -> Argument:
    return argument


def _of_first(argument: Argument) -> BatchArgument:
    return lambda messages: argument(messages[0])


def _must_be_filled(parameter: Parameter) -> bool:
    is_variadic = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return parameter.default is Parameter.empty and not is_variadic


def _call(func: Func, decode: Argument, arguments: Arguments[Argument]) -> Call:
    """Return the call in one of four shapes, so that usual handlers need no dictionary."""
    values = arguments.values
    if arguments.contexts:
        inside = _call_inside(func, arguments)

        def call(message: IncomingMessage) -> Awaitable[Any]:
            return inside(decode(message), message)
    elif not values:

        def call(message: IncomingMessage) -> Awaitable[Any]:
            return func(decode(message))
    elif len(values) == 1:
        ((name, argument),) = values.items()

        def call(message: IncomingMessage) -> Awaitable[Any]:
            return func(decode(message), **{name: argument(message)})
    else:
        items = tuple(values.items())

        def call(message: IncomingMessage) -> Awaitable[Any]:
            data = decode(message)
            return func(data, **{name: argument(message) for name, argument in items})

    # `call` has returned by the time the handler fails. A reader of tracebacks, such as the command
    # line, looks for the handler's own code.
    functools.update_wrapper(call, func, assigned=(), updated=())
    return call


def _call_inside(
    func: Func, arguments: Arguments[Callable[[T], Any]]
) -> Callable[[Any, T], Awaitable[Any]]:
    """Return a call inside context managers, which are left with the handler's exception."""

    async def call(data: Any, subject: T) -> Any:
        given = {name: argument(subject) for name, argument in arguments.values.items()}
        async with AsyncExitStack() as stack:
            for name, enter in arguments.contexts.items():
                context: AbstractAsyncContextManager[Any] = enter(subject)
                given[name] = await stack.enter_async_context(context)
            return await func(data, **given)

    return call


def _batch_call(
    func: Func, arguments: Arguments[BatchArgument]
) -> Callable[[list[Any], Messages], Awaitable[Any]]:
    if arguments.contexts:
        return _call_inside(func, arguments)
    items = tuple(arguments.values.items())

    def call(data: list[Any], messages: Messages) -> Awaitable[Any]:
        return func(data, **{name: argument(messages) for name, argument in items})

    return call


def _resolve_parameters(subscription: Subscription) -> list[Parameter]:
    """Return the handler's parameters with resolved annotations, including quoted ones."""
    func = function_of(subscription.func)
    try:
        hints = typing.get_type_hints(func, include_extras=True)
    except Exception as error:
        raise SubscriptionError(
            f"handler {subscription.handler_name}: {_describe_unresolved(func, error)}: {error}; "
            "import the name at run time (not under TYPE_CHECKING), and define it at module level"
        ) from error
    parameters = inspect.signature(subscription.func).parameters.values()
    return [p.replace(annotation=hints.get(p.name, Parameter.empty)) for p in parameters]


def function_of(func: Any) -> Any:
    """Return the function that carries the annotations of a partial or of a callable object."""
    while isinstance(func, functools.partial):
        func = func.func
    return func if inspect.isroutine(func) else func.__call__


def _describe_unresolved(func: Any, error: Exception) -> str:
    missing = getattr(error, "name", None)
    for name, annotation in getattr(func, "__annotations__", {}).items():
        if isinstance(annotation, str) and missing and missing in annotation:
            where = "return annotation" if name == "return" else f"annotation of parameter {name!r}"
            return f"cannot resolve the {where}, {annotation!r}"
    return "cannot resolve its annotations"


# --- the subscriber


class Publish(Protocol):
    """The signature of `Application.publish`, with the messages that caused the publish."""

    def __call__(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        origins: Messages = (),
        meta: Mapping[str, Any] | None = None,  # values of any type: the plugins' own
    ) -> Awaitable[Delivery]:
        """Publish one message."""


class ConsumerFacade:
    """The part of a consumer that a handler may use: it commits the handler's own progress."""

    __slots__ = ("_commit", "_messages", "raw")

    def __init__(
        self,
        messages: Messages,
        commit: Callable[[Messages], Awaitable[None]],
        raw: AIOKafkaConsumer,
    ) -> None:
        self._messages = messages
        self._commit = commit
        self.raw = raw
        """aiokafka's consumer. Committing, seeking or polling with it can lose records. It returns
        its parser's records, which have no topic and no partition."""

    async def commit(self) -> None:
        """Mark the handler's messages as done, and commit up to the first unfinished record.

        Raises:
            CommitError: the broker refused the commit or did not answer, or the partition is no
                longer ours.
        """
        await self._commit(self._messages)


class Subscriber:
    """Lets a handler publish further messages and commit.

    `messages` are the messages being handled: one message, or a batch. They become the `origins` of
    the messages published here, so that plugins can propagate headers.
    """

    __slots__ = ("_publish", "consumer", "group", "messages")

    def __init__(
        self, messages: Messages, group: str, publish: Publish, consumer: ConsumerFacade
    ) -> None:
        self.messages = messages
        self.group = group
        self.consumer = consumer
        self._publish = publish

    @property
    def message(self) -> IncomingMessage:
        """The message being handled; of a batch, the first message."""
        return self.messages[0]

    async def publish(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        meta: Mapping[str, Any] | None = None,  # values of any type: the plugins' own
    ) -> Delivery:
        """Publish as `Application.publish` does, with these messages as origins."""
        return await self._publish(
            stream_id,
            data,
            key,
            headers,
            schema=schema,
            partition=partition,
            timestamp_ms=timestamp_ms,
            origins=self.messages,
            meta=meta,
        )

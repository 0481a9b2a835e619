"""Binding of a handler's parameters: from one message to the arguments of one call."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from inspect import Parameter
from typing import Any

from .errors import SubscriptionError
from .message import IncomingMessage
from .subscription import Handler, Subscription

__all__ = ["Argument", "Call", "bind"]

Argument = Callable[[IncomingMessage], Any]
"""Makes one argument from the message."""

Call = Callable[[IncomingMessage], Awaitable[Any]]
"""Decodes a message and calls the handler with it."""

Claim = Callable[[Parameter, Subscription], Argument | None]


def bind(
    subscription: Subscription,
    *,
    decoder: Callable[[Any], Argument],
    known: Mapping[str, Argument],
    claim: Claim,
) -> Call:
    """Resolve a handler's annotations and return the call that fills its parameters.

    The first parameter's annotation (Parameter.empty: none) chooses the decoder. The others are
    filled by name from `known`, or by whoever claims them; one with a default may stay unfilled.

    Raises:
        SubscriptionError: an annotation cannot be resolved, or a parameter cannot be filled; the
            handler, the parameter and the known names are told.
    """
    first, *others = _resolved_parameters(subscription)
    decode = decoder(first.annotation)
    arguments: dict[str, Argument] = {}
    for parameter in others:
        argument = known.get(parameter.name) or claim(parameter, subscription)
        if argument is not None:
            arguments[parameter.name] = argument
        elif _must_be_filled(parameter):
            raise SubscriptionError(
                f"handler {subscription.handler_name}: nothing fills the parameter "
                f"{parameter.name!r}; known are {', '.join(sorted(known))}, and what installed "
                "plugins claim by annotation; rename it or give it a default"
            )
    return _call(subscription.func, decode, arguments)


def _must_be_filled(parameter: Parameter) -> bool:
    is_variadic = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return parameter.default is Parameter.empty and not is_variadic


def _call(func: Handler, decode: Argument, arguments: Mapping[str, Argument]) -> Call:
    """Three shapes, so that the usual handlers pay for no dictionary."""
    if not arguments:

        def call(message: IncomingMessage) -> Awaitable[Any]:
            return func(decode(message))
    elif len(arguments) == 1:
        ((name, argument),) = arguments.items()

        def call(message: IncomingMessage) -> Awaitable[Any]:
            return func(decode(message), **{name: argument(message)})
    else:
        items = tuple(arguments.items())

        def call(message: IncomingMessage) -> Awaitable[Any]:
            data = decode(message)
            return func(data, **{name: argument(message) for name, argument in items})

    return call


def _resolved_parameters(subscription: Subscription) -> list[Parameter]:
    """The handler's parameters with their annotations resolved, quoted ones too."""
    func = _function_of(subscription.func)
    try:
        hints = typing.get_type_hints(func, include_extras=True)
    except Exception as error:
        raise SubscriptionError(
            f"handler {subscription.handler_name}: {_unresolved(func, error)}: {error}; "
            "import the name at run time (not under TYPE_CHECKING), and define it at module level"
        ) from error
    parameters = inspect.signature(subscription.func).parameters.values()
    return [p.replace(annotation=hints.get(p.name, Parameter.empty)) for p in parameters]


def _function_of(func: Any) -> Any:
    """The function that carries the annotations of a partial or of an object with __call__."""
    while isinstance(func, functools.partial):
        func = func.func
    return func if inspect.isroutine(func) else func.__call__


def _unresolved(func: Any, error: Exception) -> str:
    missing = getattr(error, "name", None)
    for name, annotation in getattr(func, "__annotations__", {}).items():
        if isinstance(annotation, str) and missing and missing in annotation:
            where = "return annotation" if name == "return" else f"annotation of parameter {name!r}"
            return f"cannot resolve the {where}, {annotation!r}"
    return "cannot resolve its annotations"

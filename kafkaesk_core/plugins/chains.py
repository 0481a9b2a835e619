"""Compiles hooks: nested calls for `wrap_*` hooks, one function for the observers of an event."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeVar

from pluggy import HookImpl

from kafkaesk_core.errors import KafkaeskError, PluginError

__all__ = [
    "CountedFailures",
    "F",
    "Raiser",
    "adapt",
    "ask_once",
    "compile_chain",
    "compile_notifier",
    "find_codes",
    "find_raiser",
    "make_no_result_error",
    "make_plugin_error",
]

# Any below: subject, result and arguments differ by hook; `contract.py` checked them.
Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


def compile_chain(
    implementations: Sequence[HookImpl],
    terminal: F,
    constants: Mapping[str, Any],
    around: Callable[[str, Function], Function] | None = None,
) -> F:
    """Nest implementations, outermost first, around `terminal`; without any, return `terminal`.

    `around`, if given, takes each plugin's name and function and returns the function to call.
    """
    call: Any = terminal
    for implementation in reversed(implementations):
        values = {**_defaults(implementation), **constants}
        extra = tuple(values[name] for name in _names(implementation)[2:])
        function = implementation.function
        if around is not None:
            function = around(implementation.plugin_name, function)
        call = _layer(function, call, extra)
    return call  # type: ignore[no-any-return]  # every layer has the shape of the terminal


def _layer(function: Function, call_next: Function, extra: tuple[Any, ...]) -> Function:
    """Build one layer: a plain closure, so that a plugin costs no second coroutine."""
    if not extra:

        def layer(subject: Any) -> Any:
            return function(subject, call_next)

    elif len(extra) == 1:
        (only,) = extra

        def layer(subject: Any) -> Any:
            return function(subject, call_next, only)

    else:

        def layer(subject: Any) -> Any:
            return function(subject, call_next, *extra)

    return layer


def compile_notifier(
    hook: str,
    implementations: Sequence[HookImpl],
    arguments: Sequence[str],
    constants: Mapping[str, Any],
    failures: CountedFailures,
) -> Callable[..., None] | None:
    """Combine all observers in one function of `arguments`; return None if there are none.

    If an observer raises, `failures` counts it and the next observer is called. A cancellation is
    raised.
    """
    observers = [(i.plugin_name, adapt(i, arguments, constants)) for i in implementations]
    if not observers:
        return None

    def notify(*values: Any) -> None:
        for plugin, observe in observers:
            try:
                observe(*values)
            except Exception as error:
                said = f"plugin {plugin!r} failed in {hook}"
                failures.note(f"{plugin}.{hook}", error, subject=said)

    return notify


def adapt(
    implementation: HookImpl, arguments: Sequence[str], constants: Mapping[str, Any]
) -> Function:
    """Adapt an implementation, which may take a subset in any order, to a call with `arguments`."""
    function, names = implementation.function, _names(implementation)
    if names == list(arguments):
        return function
    fixed = {**_defaults(implementation), **constants}
    available, tail = [*arguments, *fixed], tuple(fixed.values())
    positions = [available.index(name) for name in names]
    if not positions:
        return lambda *_: function()
    if len(positions) == 1:
        (position,) = positions
        return lambda *values: function((values + tail)[position])
    pick = itemgetter(*positions)
    return lambda *values: function(*pick(values + tail))


def ask_once(
    implementation: HookImpl,
    hook: str,
    expected: tuple[str, Callable[[Any], bool]],
    **values: Any,
) -> Any:
    """Call an implementation once, at the start, and check its answer.

    `expected` is a pair: the description of a valid answer, and a test for it.

    Raises:
        PluginError: the implementation raised, or returned an invalid answer.
    """
    plugin = implementation.plugin_name
    what, is_expected = expected
    try:
        answer = adapt(implementation, tuple(values), {})(*values.values())
    except Exception as error:
        raise make_plugin_error(plugin, hook, error) from error
    if not is_expected(answer):
        text = f"plugin {plugin!r}: {hook} returned {type(answer).__name__}, expected {what}"
        raise PluginError(text, plugin=plugin, hook=hook)
    return answer


def make_plugin_error(plugin: str, hook: str, error: Exception, doing: str = "") -> PluginError:
    """Return the error for a plugin that raised; `doing` says when, unless the hook does.

    It keeps the exit code of the original error: a plugin that cannot reach a broker is not broken.
    """
    text = f"plugin {plugin!r} failed {doing or f'in {hook}'}: {type(error).__name__}: {error}"
    plugin_error = PluginError(text, plugin=plugin, hook=hook)
    if isinstance(error, KafkaeskError) and error.exit_code != KafkaeskError.exit_code:
        plugin_error.exit_code = error.exit_code
    return plugin_error


def make_no_result_error(hook: str, layers: Sequence[str]) -> PluginError:
    """Return the error for a chain that returned None because one of its layers did."""
    return PluginError(
        f"a layer of {hook} returned None instead of what call_next() returned; "
        f"it is one of: {', '.join(layers)}",
        hook=hook,
    )


def _names(implementation: HookImpl) -> list[str]:
    return [*implementation.argnames, *implementation.kwargnames]


def _defaults(implementation: HookImpl) -> dict[str, Any]:
    """Return the defaults of optional arguments, which the hook may not have."""
    parameters = inspect.signature(implementation.function).parameters
    return {name: parameters[name].default for name in implementation.kwargnames}


class Raiser(NamedTuple):
    """The plugin that raised an error, and the hook in which it did."""

    plugin: str
    hook: str

    def __str__(self) -> str:
        return f"in {self.hook} of plugin {self.plugin!r}"


def find_raiser(
    error: BaseException,
    implementations: Mapping[str, Iterable[HookImpl]],
    terminals: Collection[CodeType],
) -> Raiser | None:
    """Return the plugin, and its hook, with the deepest frame in the traceback of `error`.

    Returns None if the innermost call of a chain (`terminals`) raised, because the error only
    passed through the layers.
    """
    owners: dict[CodeType, list[tuple[str, HookImpl]]] = {}
    for hook, of_hook in implementations.items():
        for implementation in of_hook:
            for code in find_codes(implementation.function):
                owners.setdefault(code, []).append((hook, implementation))
    culprit = None
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code in terminals:
            culprit = None
        elif code in owners:
            culprit = _owner(trace.tb_frame, owners[code])
        trace = trace.tb_next
    return culprit


def _owner(frame: FrameType, candidates: list[tuple[str, HookImpl]]) -> Raiser:
    """Distinguish instances of one plugin class by the frame's first argument."""
    arguments = frame.f_code.co_varnames
    first = frame.f_locals.get(arguments[0]) if arguments else None
    hook, owner = next((c for c in candidates if c[1].plugin is first), candidates[0])
    return Raiser(owner.plugin_name, hook)


def find_codes(function: Function | None) -> set[CodeType]:
    """Return the code objects of `function` and of the functions that it wraps."""
    found: set[CodeType] = set()
    while function is not None:
        while isinstance(function, partial):
            function = function.func
        code = getattr(function, "__code__", None)
        code = code or getattr(type(function).__call__, "__code__", None)
        if isinstance(code, CodeType):
            found.add(code)
        function = getattr(function, "__wrapped__", None)
    return found


class CountedFailures:
    """Counts failures by kind in `counts`, and logs the 1st, 10th, 100th ... of each kind.

    A plugin may fail for each message, and one log line per failure would hide all other lines. The
    line ends with `consequence`, for example "messages continue without it".
    """

    def __init__(
        self, logger: logging.Logger, consequence: str, *, level: int = logging.WARNING
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._logger = logger
        self._consequence = consequence
        self._level = level

    def note(
        self, kind: str, error: BaseException | None = None, *, subject: str | None = None
    ) -> None:
        """Count one failure; the log line begins with `subject` instead of "<kind> failed"."""
        self.counts[kind] += 1
        count = self.counts[kind]
        if str(count).rstrip("0") == "1":
            times = "first failure" if count == 1 else f"{count} failures so far"
            said = f"{kind} failed" if subject is None else subject
            self._logger.log(
                self._level, "%s (%s); %s", said, times, self._consequence, exc_info=error
            )

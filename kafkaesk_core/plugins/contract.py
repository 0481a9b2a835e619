"""A plugin's name, place and state, and the checks of its contract."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath
from types import ModuleType
from typing import Any, Literal, get_args

import pluggy

from kafkaesk_core.errors import PluginError
from kafkaesk_core.hooks import HOOK_API, Hooks, Stage, hookimpl

__all__ = [
    "SIGNATURES",
    "STAGES",
    "PluginInfo",
    "Status",
    "check_plugin",
    "default_name",
    "describe_place",
    "did_you_mean",
    "function_plugin",
]

Status = Literal["active", "disabled", "failed"]
Function = Callable[..., Any]  # any hook's


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One plugin as `kafkaesk plugins` lists it; `dataclasses.asdict` makes it JSON-able.

    `source` is the package that provides it, or "app" for a plugin of the service. `value` is
    "module:name". `reason` says why it is not active. `hooks` are the names of the hooks that it
    implements.
    """

    name: str
    source: str
    value: str
    version: str = ""
    status: Status = "active"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    stage: str | None = None


def default_name(plugin: object) -> str:
    """Return a plugin's attribute `name`, or a name from its module or class: "dead-letter"."""
    name = getattr(plugin, "name", None)
    if isinstance(name, str) and name:
        return name
    if isinstance(plugin, ModuleType):
        return plugin.__name__
    owner = plugin if inspect.isclass(plugin) else type(plugin)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", owner.__name__).lower()


def describe_place(plugin: object) -> str:
    """Return where a plugin is defined, as "module:name"."""
    if isinstance(plugin, ModuleType):
        return plugin.__name__
    if isinstance(plugin, _FunctionPlugin):
        return plugin.place
    return f"{type(plugin).__module__}:{type(plugin).__qualname__}"


def function_plugin(
    function: Function, hook: str | None = None, *, stage: Stage | None = None
) -> object:
    """Return a plugin named "module.function" for one function without `self`.

    The function has the hook's name, unless `hook` names the hook. Problems are reported when the
    plugin is registered.
    """
    return _FunctionPlugin(function, hook or function.__name__, stage)


class _FunctionPlugin:
    """A plugin of one function, stored as an attribute with the hook's name."""

    def __init__(self, function: Function, hook: str, stage: Stage | None) -> None:
        self.place = f"{function.__module__}:{function.__qualname__}"
        self.name = f"{function.__module__}.{function.__name__}"
        self.stage = stage
        if not hasattr(function, "kafkaesk_impl"):
            hookimpl(function)
        setattr(self, hook, function)


# --- the contract

SIGNATURES: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(function).parameters)[1:]
    for name, function in vars(Hooks).items()
    if hasattr(function, "kafkaesk_spec")
}
"""Every hook and the names of its arguments, in their order."""

CLAIMS = ("claimed_headers", "claimed_streams", "claimed_options")
"""Attributes with the names that a plugin owns."""

ASKED = ("bind_parameter", "check_subscription", "codec", "declare", "upcasters")
"""Hooks that are called once, most of them at the start; their exceptions stop the start."""

STATES = ("health", "report")
"""Hooks that return a plugin's state."""

LATER = ("check_subscription", "codec", "declare", "health", "report", "upcasters")
"""Later hooks: a plugin may have a method with such a name that is not a hook."""

STAGES: tuple[str, ...] = get_args(Stage)
"""From the outermost to the innermost."""


def check_plugin(plugin: object, name: str, manager: pluggy.PluginManager) -> tuple[str, ...]:
    """Check everything that can be known before the first call; return the names of the hooks.

    Raises:
        PluginError: the plugin breaks its contract; the error says where, and the correct form.
    """
    if inspect.isclass(plugin):
        raise PluginError(
            f"plugin {name!r}: got the class {plugin.__name__}, expected an instance; "
            "did you forget '()'?",
            plugin=name,
        )
    if isinstance(plugin, (str, bytes)) or plugin is None:
        raise PluginError(f"plugins= takes a list of plugin instances, got {plugin!r} in it")
    _check_identity(plugin, name)
    _check_attributes(plugin, name)
    marked = {a: manager.parse_hookimpl_opts(plugin, a) for a in dir(plugin)}
    hooks = []
    for attribute, options in marked.items():
        if options is None:
            _check_unmarked(plugin, name, attribute)
        elif hook := _known_hook(name, options.get("specname") or attribute, options):
            _Implementation(name, hook, getattr(plugin, attribute)).check(options)
            hooks.append(hook)
    if not any(marked.values()) and not any(getattr(plugin, claim, ()) for claim in CLAIMS):
        raise PluginError(
            f"plugin {name!r}: {type(plugin).__name__} implements no hook; "
            "decorate its methods with @hookimpl",
            plugin=name,
        )
    return tuple(sorted(hooks))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" if a known name is close, else ""."""
    from difflib import get_close_matches  # for mistakes only

    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _check_identity(plugin: object, name: str) -> None:
    if type(plugin).__eq__ is not object.__eq__:
        raise PluginError(
            f"plugin {name!r}: {type(plugin).__name__} is compared by ==, a plugin must be "
            "compared by identity; use @dataclass(eq=False), keep pydantic models for its settings",
            plugin=name,
        )


def _check_attributes(plugin: object, name: str) -> None:
    stage = getattr(plugin, "stage", None)
    if stage is not None and stage not in STAGES:
        raise PluginError(
            f"plugin {name!r}: stage {stage!r} is not one of {', '.join(STAGES)}"
            f"{did_you_mean(str(stage), STAGES)}",
            plugin=name,
        )
    api = getattr(plugin, "hook_api", HOOK_API)
    if api != HOOK_API:
        raise PluginError(
            f"plugin {name!r} is written for hook API {api!r}, this kafkaesk-core has {HOOK_API}; "
            "install versions that fit each other",
            plugin=name,
        )
    early: object = getattr(plugin, "starts_early", False)
    if not isinstance(early, bool):
        raise PluginError(
            f"plugin {name!r}: starts_early is {early!r}, expected True or False", plugin=name
        )
    for attribute in CLAIMS:
        claimed: object = getattr(plugin, attribute, frozenset())
        if not isinstance(claimed, (frozenset, set)) or not all(
            isinstance(c, str) for c in claimed
        ):
            raise PluginError(
                f"plugin {name!r}: {attribute} is {claimed!r}, expected a frozenset of str",
                plugin=name,
            )


def _check_unmarked(plugin: object, name: str, attribute: str) -> None:
    if attribute in LATER and not _has_arguments_of(attribute, getattr(plugin, attribute, None)):
        return
    if attribute in SIGNATURES and callable(inspect.getattr_static(plugin, attribute)):
        raise PluginError(
            f"plugin {name!r}: {attribute}() has the name of a hook but no @hookimpl; "
            "decorate it or rename it",
            plugin=name,
            hook=attribute,
        )


def _has_arguments_of(hook: str, function: object) -> bool:
    """Whether a function without @hookimpl was probably intended as this hook."""
    try:
        names = list(inspect.signature(function).parameters)  # type: ignore[arg-type]  # tried
    except (TypeError, ValueError):
        return False
    return bool(names) and set(names) <= set(SIGNATURES[hook])


def _known_hook(name: str, hook: str, options: pluggy.HookimplOpts) -> str | None:
    if hook in SIGNATURES:
        return hook
    if options.get("optionalhook"):
        return None
    raise PluginError(
        f"plugin {name!r}: unknown hook {hook!r}{did_you_mean(hook, SIGNATURES)} "
        "(mark it optionalhook=True if it is for a newer core)",
        plugin=name,
        hook=hook,
    )


@dataclass(frozen=True, slots=True)
class _Implementation:
    """One marked function of a plugin, with its checks."""

    plugin: str
    hook: str
    function: Callable[..., Any]

    def check(self, options: pluggy.HookimplOpts) -> None:
        if options.get("wrapper") or options.get("hookwrapper"):
            raise self._error(f"{self.hook} is {self._wrapper_remedy()}")
        if self.hook.startswith("wrap_"):
            self._check_wrap()
        elif self.hook == "lifespan":
            self._check_lifespan()
        else:
            self._check_plain()
        for parameter in inspect.signature(self.function).parameters.values():
            if problem := self._problem(parameter):
                raise self._error(f"{self.hook}{problem} {self._place()}")

    def _wrapper_remedy(self) -> str:
        if not self.hook.startswith("wrap_"):
            return "called by the runtime itself and cannot be wrapper=True"
        arguments = ", ".join(("self", *SIGNATURES[self.hook][:2]))
        remedy = f"write async def {self.hook}({arguments})"
        return f"awaited by the runtime and cannot be wrapper=True; {remedy}"

    def _check_wrap(self) -> None:
        if not inspect.iscoroutinefunction(self.function):
            without = " without yield" if inspect.isasyncgenfunction(self.function) else ""
            raise self._error(f"{self.hook} must be 'async def'{without} {self._place()}")
        first = SIGNATURES[self.hook][:2]
        names = tuple(inspect.signature(self.function).parameters)
        if names[:2] != first:
            raise self._error(
                f"{self.hook}({', '.join(names)}) must start with ({', '.join(first)}) "
                f"{self._place()}"
            )

    def _check_plain(self) -> None:
        if _is_plain(self.function):
            return
        if self.hook == "health" and inspect.isgeneratorfunction(self.function):
            return  # it yields its texts
        what = "a notification"
        if self.hook in ASKED + STATES:
            what = "called once at start" if self.hook in ASKED else "never awaited"
        raise self._error(f"{self.hook} is {what} and must be a plain 'def' {self._place()}")

    def _check_lifespan(self) -> None:
        if not _is_plain(self.function):
            raise self._error(
                "lifespan must return an async context manager; "
                f"decorate it with @contextlib.asynccontextmanager {self._place()}"
            )

    def _problem(self, parameter: inspect.Parameter) -> str:
        """Return the problem of one argument; "" if there is none."""
        name, known = parameter.name, SIGNATURES[self.hook]
        is_required = parameter.default is parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f": *{name} gets nothing; name the arguments you want"
        if parameter.kind is parameter.KEYWORD_ONLY and (is_required or name in known):
            return f": {name!r} is keyword-only, which hooks do not pass; move it before the '*'"
        if is_required and name not in known:
            return (
                f" has no argument {name!r}{did_you_mean(name, known)} "
                f"(known are {', '.join(known)}; give it a default if it is for a newer core)"
            )
        return ""

    def _error(self, problem: str) -> PluginError:
        text = f"plugin {self.plugin!r}: {problem}"
        return PluginError(text, plugin=self.plugin, hook=self.hook)

    def _place(self) -> str:
        code = inspect.unwrap(self.function).__code__
        return f"({PurePath(code.co_filename).name}:{code.co_firstlineno})"


def _is_plain(function: Callable[..., Any]) -> bool:
    return not (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )

"""The plugins of one application: registered, ordered, and compiled into chains."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from inspect import Parameter
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic_core import to_jsonable_python

from kafkaesk_core.entry_points import Loadable
from kafkaesk_core.errors import ConfigurationError, PluginError, SubscriptionError
from kafkaesk_core.hooks import Hooks

from .chains import (
    CountedFailures,
    F,
    Raiser,
    adapt,
    ask_once,
    compile_chain,
    compile_notifier,
    find_codes,
    find_raiser,
    make_plugin_error,
)
from .contract import (
    SIGNATURES,
    STAGES,
    PluginInfo,
    check_plugin,
    default_name,
    describe_place,
    did_you_mean,
)
from .loading import (
    InstalledPlugin,
    Selection,
    combine_failures,
    find_installed,
    load_each,
    warn_of_unknown,
)

if TYPE_CHECKING:
    from kafkaesk_core.app_protocol import App
    from kafkaesk_core.message import IncomingMessage
    from kafkaesk_core.router import Router, Subscription
    from kafkaesk_core.schema.codecs import Codec, FindCodec
    from kafkaesk_core.schema.registry import SchemaRegistration

__all__ = [
    "Lifespan",
    "Plugins",
]

logger = logging.getLogger("kafkaesk.plugins")

Implementations = list[pluggy.HookImpl]
Names = list[str]
Infos = list[PluginInfo]


class Lifespan(AbstractAsyncContextManager[None]):
    """Enters and leaves the context manager of a plugin's `lifespan`.

    `failure` is the error that the plugin raised on leaving, or None.

    Raises:
        PluginError: the plugin failed on entering. A failure on leaving is logged.
    """

    def __init__(self, plugin: str, inner: AbstractAsyncContextManager[None]) -> None:
        self.plugin = plugin
        self._inner = inner
        self.failure: Exception | None = None

    async def __aenter__(self) -> None:
        try:
            await self._inner.__aenter__()
        except Exception as error:
            doing = "while entering its lifespan"
            raise make_plugin_error(self.plugin, "lifespan", error, doing) from error

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._inner.__aexit__(exc_type, exc, traceback)
        except Exception as error:
            self.failure = error
            logger.exception("plugin %r failed while leaving its lifespan", self.plugin)


Lifespans = list[Lifespan]
NOTHING = ("None", lambda answer: answer is None)
"""The expected answer of a hook that returns nothing."""


class Plugins:
    """The plugins of one application: registered, ordered, compiled.

    Order, outermost first: the names in `order`; then by stage ("observe", "recover", "transform",
    "deliver", and last the service's own hooks without a stage); within a stage tryfirst, then the
    rest, then trylast; then by name. `on_change` is called after every change, because chains that
    were compiled before are out of date. `observer_errors` counts the exceptions of observers by
    "plugin.hook".
    """

    def __init__(
        self, *, order: Sequence[str] = (), on_change: Callable[[], None] | None = None
    ) -> None:
        self._failures = CountedFailures(logger, "the application continues", level=logging.ERROR)
        self.observer_errors = self._failures.counts
        self._order = tuple(order)
        self._changed = on_change or (lambda: None)
        # Never called per message, and never shown: pluggy's calls do not await.
        self._manager = pluggy.PluginManager("kafkaesk")
        self._manager.add_hookspecs(Hooks)
        self._active: dict[str, PluginInfo] = {}
        self._inactive: Infos = []
        self._declared: list[tuple[SchemaRegistration, App]] = []
        self._terminals: set[CodeType] = set()
        self._log_layer: Callable[..., Callable[..., Any]] | None = None

    def register(self, plugin: object, name: str | None = None, *, source: str = "app") -> str:
        """Add a plugin and return its name: `name`, its attribute `name`, or its class's name.

        `source` is the plugin's package, or "app" for a plugin of the service. A plugin that is
        registered late is placed by the same order and receives every schema declared before; its
        lifespan is not entered.

        Raises:
            PluginError: the plugin breaks its contract, or the name is taken; nothing has changed.
        """
        name = name or default_name(plugin)
        self._add(plugin, PluginInfo(name=name, source=source, value=describe_place(plugin)))
        return name

    def _add(self, plugin: object, info: PluginInfo) -> None:
        try:
            hooks = check_plugin(plugin, info.name, self._manager)
        except PluginError:
            raise
        except Exception as error:  # of a property, say
            problem = f"cannot be registered: {type(error).__name__}: {error}"
            raise PluginError(f"plugin {info.name!r} {problem}", plugin=info.name) from error
        self._check_new(plugin, info.name)
        self._manager.register(plugin, info.name)
        stage = getattr(plugin, "stage", None) or (None if info.source == "app" else "transform")
        self._active[info.name] = replace(info, hooks=hooks, stage=stage)
        self._replay(info.name)
        self._changed()

    def unregister(self, plugin_or_name: object) -> None:
        """Remove a plugin; messages in flight finish on the old chain.

        Raises:
            PluginError: the plugin is not registered.
        """
        wanted = plugin_or_name
        name = wanted if isinstance(wanted, str) else self._manager.get_name(wanted)
        if name not in self._active:
            hint = did_you_mean(str(wanted), self._active)
            raise PluginError(f"no plugin {wanted!r} is registered{hint}")
        self._manager.unregister(name=name)
        del self._active[name]
        self._changed()

    def get(self, name: str) -> object | None:
        """Return the active plugin of this name."""
        found: object | None = self._manager.get_plugin(name)
        return found

    def list(self) -> Infos:
        """Return all plugins by name, including disabled and failed ones."""
        everything = [*self._active.values(), *self._inactive]
        return sorted(everything, key=lambda info: (info.name, info.source))

    def load_entry_points(
        self,
        *,
        allow: Collection[str] | None = None,
        disabled: Collection[str] = frozenset(),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        entry_points: Iterable[Loadable] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Load the installed plugins; plugins that were loaded before stay unchanged.

        A plugin that the service has registered itself replaces an installed plugin with the same
        class and name. `allow` None means all. Plugins that are in `disabled` or not in `allow` are
        listed but never imported. `settings` maps a plugin's name to its settings. `entry_points`
        and `environ` default to those of the process. All plugins are tried before the error is
        raised.

        Raises:
            PluginError: a plugin cannot be loaded, or `allow` names a plugin that is not installed.
        """
        explicit = settings or {}
        installed = find_installed(entry_points)

        def load(plugin: InstalledPlugin) -> bool:
            active = self._active.get(plugin.name)
            if active and active.source == plugin.package:
                return True
            if active and plugin.makes(self._manager.get_plugin(plugin.name)):
                return True  # the service has made its own, with arguments of its own
            built = plugin.build(explicit.get(plugin.name, {}), environ)
            if built is not None:
                self._add(built, plugin.info("active"))
            return built is not None

        selection = Selection(allow, disabled)
        names = [plugin.name for plugin in installed]
        warn_of_unknown("KAFKAESK_DISABLE_PLUGINS", disabled, names)
        warn_of_unknown("plugin settings", explicit, names)
        self._inactive, failures = load_each(installed, load, selection)
        warn_of_unknown("plugin order", self._order, self._active)
        if failures:
            raise combine_failures(failures)

    def chain(
        self,
        hook: str,
        terminal: F,
        *,
        skip: Collection[str] = frozenset(),
        **constants: Any,  # the hook's other arguments, of any type
    ) -> F:
        """Compile the layers of a `wrap_*` hook around `terminal`; without any, return it.

        `skip` names plugins to leave out. `constants` are all arguments of the hook after the first
        two.

        Raises:
            TypeError: one of these arguments is missing.
        """
        if missing := [name for name in SIGNATURES[hook][2:] if name not in constants]:
            raise TypeError(f"chain({hook!r}) needs {', '.join(missing)}")
        self._terminals |= find_codes(terminal)
        around = None if self._log_layer is None else partial(self._log_layer, hook)
        return compile_chain(self._sort_implementations(hook, skip), terminal, constants, around)

    def notifier(
        self, hook: str, *, skip: Collection[str] = frozenset(), **constants: Any
    ) -> Callable[..., None] | None:
        """Compile all observers of `hook` into one function; None if there are none.

        `skip` names plugins to leave out. The function takes the hook's arguments that are not in
        `constants`, by position, in the order of the specification. Errors are logged with the
        plugin's name and counted, but never raised; a cancellation is raised.
        """
        arguments = [name for name in SIGNATURES[hook] if name not in constants]
        found = self._sort_implementations(hook, skip)
        return compile_notifier(hook, found, arguments, constants, self._failures)

    def log_layers(self) -> None:
        """Log each call of a layer (`KAFKAESK_DEBUG_HOOKS`) from the next compilation on."""
        from .debug import log_layer

        self._log_layer = log_layer
        self._changed()

    def of_stage(self, stage: str) -> frozenset[str]:
        """Return the names of the plugins with this stage."""
        return frozenset(name for name, info in self._active.items() if info.stage == stage)

    def layers(self, hook: str, skip: Collection[str] = ()) -> Names:
        """Return the names of the plugins that implement `hook`, outermost first."""
        return [
            implementation.plugin_name for implementation in self._sort_implementations(hook, skip)
        ]

    def only_observes(self, hook: str, skip: Collection[str] = ()) -> bool:
        """Whether all plugins that implement `hook` have the stage "observe"."""
        return all(self._active[name].stage == "observe" for name in self.layers(hook, skip))

    def declare_schema(self, schema: SchemaRegistration, app: App) -> None:
        """Report a schema to every plugin, including those registered later; errors are logged."""
        self._declared.append((schema, app))
        if notify := self.notifier("schema_registered"):
            notify(schema, app)

    def lifespans(self, app: App, *, early: bool = False) -> Lifespans:
        """Return the context managers to enter, outermost first.

        With `early`, return those of the plugins with `starts_early`, else those of all others.

        Raises:
            PluginError: a plugin raised, or returned something else.
        """
        expected = ("an async context manager", lambda answer: hasattr(answer, "__aenter__"))
        return [
            Lifespan(
                implementation.plugin_name, ask_once(implementation, "lifespan", expected, app=app)
            )
            for implementation in self._sort_implementations("lifespan")
            if bool(getattr(implementation.plugin, "starts_early", False)) is early
        ]

    def bind_parameter(
        self, parameter: Parameter, subscription: Subscription
    ) -> Callable[[IncomingMessage], Any] | None:  # the handler's argument, of any type
        """Return a function that provides the argument for a handler's parameter, or None.

        The outermost answer counts.

        Raises:
            PluginError: a plugin raised, or returned something that is not callable.
        """
        hook, values = "bind_parameter", {"parameter": parameter, "subscription": subscription}
        expected = ("a function or None", lambda answer: answer is None or callable(answer))
        answers = (ask_once(i, hook, expected, **values) for i in self._sort_implementations(hook))
        return next((answer for answer in answers if answer is not None), None)

    def upcasts(
        self, schema: SchemaRegistration, subscription: Subscription
    ) -> dict[str, Callable[[Any], Any]]:
        """Return the functions that upgrade data of a schema's older versions, by version name.

        Raises:
            PluginError: a plugin raised, or returned something else.
        """
        hook, values = "upcasters", {"schema": schema, "subscription": subscription}
        expected = ("a mapping of functions, or None", _are_functions)
        found: dict[str, Callable[[Any], Any]] = {}
        for implementation in self._sort_implementations(hook, subscription.skip_plugins):
            for key, function in (ask_once(implementation, hook, expected, **values) or {}).items():
                found.setdefault(key, function)
        return found

    @property
    def codec(self) -> FindCodec | None:
        """A function that finds the codec of a stream and a schema; None without codecs."""
        return self._find_codec if self._implementations("codec") else None

    def _find_codec(self, stream: str, schema: SchemaRegistration | None) -> Codec | None:
        expected = ("a codec or None", _is_codec)
        answers = (
            ask_once(each, "codec", expected, stream=stream, schema=schema)
            for each in self._sort_implementations("codec")
        )
        return next((answer for answer in answers if answer is not None), None)

    def check_subscription(self, subscription: Subscription) -> None:
        """Let plugins check a subscription, except the plugins that it skips.

        Raises:
            SubscriptionError: a plugin says that an option is wrong.
            PluginError: a plugin failed.
        """
        hook = "check_subscription"
        for implementation in self._sort_implementations(hook, subscription.skip_plugins):
            try:
                ask_once(implementation, hook, NOTHING, subscription=subscription)
            except PluginError as error:
                cause = error.__cause__
                if isinstance(cause, SubscriptionError):
                    raise cause from cause.__cause__  # it names the handler itself
                if not isinstance(cause, (ConfigurationError, ValueError)):
                    raise
                raise SubscriptionError(
                    f"handler {subscription.handler_name}: {cause} "
                    f"(plugin {implementation.plugin_name!r})"
                ) from cause

    def declare(self, mount: Callable[[], Router], app: App) -> None:
        """Let plugins declare subscriptions and schemas, each on its own router.

        `mount` creates a router and mounts it.

        Raises:
            PluginError: a plugin failed, or made an invalid declaration.
        """
        for implementation in self._sort_implementations("declare"):
            ask_once(implementation, "declare", NOTHING, router=mount(), app=app)

    def hindrances(self, app: App) -> Names:
        """Return the plugins' problems, each with its plugin's name, and failures of `health`."""
        found: Names = []
        for plugin, answer in self._ask("health", _copy_texts, app):
            if isinstance(answer, PluginError):
                found.append(str(answer))
            else:
                found += [f"plugin {plugin!r}: {text}" for text in answer]
        return found

    def reports(self, app: App) -> dict[str, dict[str, Any]]:  # any JSON
        """Return copies of the plugins' reports by name; a failed plugin has its error instead."""
        answers = self._ask("report", _copy_json, app)
        return {
            plugin: {"error": str(answer)} if isinstance(answer, PluginError) else answer
            for plugin, answer in answers
        }

    def _ask(self, hook: str, copy: Callable[[Any], Any], app: App) -> Iterator[tuple[str, Any]]:
        """Yield each plugin's name with a copy of its answer, or the logged and counted error."""
        for implementation in self._sort_implementations(hook):
            plugin = implementation.plugin_name
            try:
                yield plugin, copy(adapt(implementation, ("app",), {})(app))
            except Exception as error:
                said = f"plugin {plugin!r} failed in {hook}"
                self._failures.note(f"{plugin}.{hook}", error, subject=said)
                yield plugin, make_plugin_error(plugin, hook, error)

    @property
    def claimed_headers(self) -> frozenset[str]:
        """The names of headers that plugins own (their attribute `claimed_headers`)."""
        return self._claimed("claimed_headers")

    @property
    def claimed_streams(self) -> frozenset[str]:
        """The patterns of streams that plugins own (their attribute `claimed_streams`)."""
        return self._claimed("claimed_streams")

    @property
    def claimed_options(self) -> frozenset[str]:
        """The names of options that plugins own (their attribute `claimed_options`)."""
        return self._claimed("claimed_options")

    def _claimed(self, attribute: str) -> frozenset[str]:
        plugins = self._manager.get_plugins()
        return frozenset().union(*(getattr(plugin, attribute, ()) for plugin in plugins))

    def find_raiser(self, error: BaseException) -> Raiser | None:
        """Return the plugin and the hook that raised `error`, or None, from its traceback."""
        everything = {hook: self._implementations(hook) for hook in SIGNATURES}
        return find_raiser(error, everything, self._terminals)

    def note_raiser(self, error: Exception) -> None:
        """Add a note to `error` with the plugin and the hook that raised it, if one did."""
        if raiser := self.find_raiser(error):
            error.add_note(f"raised {raiser}")

    def name_failure(self, error: Exception) -> Exception:
        """Return a PluginError if a plugin raised `error`, else the error itself."""
        raiser = self.find_raiser(error)
        if raiser is None:
            return error
        named = make_plugin_error(raiser.plugin, raiser.hook, error)
        named.__cause__ = error
        return named

    def _implementations(self, hook: str) -> Implementations:
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return caller.get_hookimpls()

    def _sort_implementations(self, hook: str, skip: Collection[str] = ()) -> Implementations:
        kept = [i for i in self._implementations(hook) if i.plugin_name not in skip]
        return sorted(kept, key=self._rank)

    def _rank(self, implementation: pluggy.HookImpl) -> tuple[int, int, int, str]:
        name = implementation.plugin_name
        order = self._order.index(name) if name in self._order else len(self._order)
        stage = self._active[name].stage
        depth = STAGES.index(stage) if stage else len(STAGES)
        return order, depth, implementation.trylast - implementation.tryfirst, name

    def _replay(self, name: str) -> None:
        """Report all schemas to a new plugin, after all of its hooks are registered."""
        hook = "schema_registered"
        mine = [i for i in self._implementations(hook) if i.plugin_name == name]
        if notify := compile_notifier(hook, mine, SIGNATURES[hook], {}, self._failures):
            for schema, app in self._declared:
                notify(schema, app)

    def _check_new(self, plugin: object, name: str) -> None:
        if other := self._manager.get_name(plugin):
            text = f"plugin {name!r} is registered already, as {other!r}"
        elif info := self._active.get(name):
            text = (
                f"plugin {name!r}: the name is taken by {info.value} from {info.source}; "
                "give this one another, by its attribute 'name' or register(plugin, name)"
            )
        else:
            return
        raise PluginError(text, plugin=name)


def _are_functions(answer: Any) -> bool:
    is_mapping = isinstance(answer, Mapping) and all(map(callable, answer.values()))
    return answer is None or is_mapping


def _is_codec(answer: Any) -> bool:
    return answer is None or all(hasattr(answer, name) for name in ("encode", "decode"))


def _copy_texts(answer: Any) -> Names:
    texts = [] if isinstance(answer, str) else list(answer)
    if isinstance(answer, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"returned {answer!r}, expected a list of texts")
    return texts


def _copy_json(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, Mapping):
        raise TypeError(f"returned {type(answer).__name__}, expected a dict")
    copied: dict[str, Any] = to_jsonable_python(dict(answer))
    return copied

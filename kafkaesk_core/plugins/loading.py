"""Installed plugins: selects them, reads their settings, loads them, and records failures."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator, core_schema

from kafkaesk_core.entry_points import (
    PLUGINS,
    Loadable,
    find_entry_points,
    load_entry_point,
    package_of,
)
from kafkaesk_core.environment import PREFIX, read_environment
from kafkaesk_core.errors import ConfigurationError, PluginError

from .contract import PluginInfo, Status, did_you_mean

if TYPE_CHECKING:
    from .manager import Plugins

__all__ = [
    "InstalledPlugin",
    "Selection",
    "check_names",
    "check_plugin_arguments",
    "combine_failures",
    "find_installed",
    "load_each",
    "warn_of_unknown",
    "warn_of_unread",
]

Settings = Mapping[str, Any]  # values of any type: the plugin's model checks them

logger = logging.getLogger("kafkaesk.plugins")


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A plugin of an installed package; nothing is imported before `build`."""

    name: str
    package: str
    version: str
    entry_point: Loadable

    def build(self, settings: Settings, environ: Mapping[str, str] | None) -> object | None:
        """Import and create the plugin; return None if its settings say `enabled: false`.

        Raises:
            PluginError: the plugin's settings are wrong, or the entry point names no plugin.
            BaseException: whatever the plugin's own code raises.
        """
        found = load_entry_point(self.entry_point)
        _check_kind(found)
        model = _settings_model(found)
        values, is_enabled = read_settings(model, self.name, explicit=settings, environ=environ)
        if not is_enabled:
            return None
        if not inspect.isclass(found):
            return found  # type: ignore[no-any-return]  # a module, shared by the whole process
        make: Callable[..., object] = found
        return make() if values is None else make(values)

    def makes(self, plugin: object) -> bool:
        """Whether `build` would return a plugin of this kind.

        Raises:
            BaseException: whatever the plugin's own code raises.
        """
        found = load_entry_point(self.entry_point)
        return type(plugin) is found if inspect.isclass(found) else plugin is found

    def failure(self, cause: str) -> PluginError:
        """Return the error for a failure; it says how to start without the plugin."""
        return PluginError(
            f"cannot load plugin {self.name!r} from {self.package} {self.version} "
            f"({self.entry_point.value}): {cause}\n"
            f"  disable it with KAFKAESK_DISABLE_PLUGINS={self.name}, "
            "or list the plugins to load in KAFKAESK_PLUGINS",
            plugin=self.name,
        )

    def info(self, status: Status, reason: str = "") -> PluginInfo:
        """Return the plugin's description with this state."""
        return PluginInfo(
            name=self.name,
            source=self.package,
            value=self.entry_point.value,
            version=self.version,
            status=status,
            reason=reason,
        )


def _check_kind(found: Any) -> None:  # whatever was imported
    """Refuse a function, a text, a number: an entry point names a class or a module."""
    is_plain = type(found).__module__ == "builtins" and not inspect.isclass(found)
    if is_plain and not inspect.ismodule(found):
        raise PluginError(
            f"it is of type {type(found).__name__}; an entry point of {PLUGINS} names a plugin's "
            "class, or a module with hooks"
        )


def _settings_model(found: Any) -> type[BaseModel] | None:  # whatever was imported
    model = getattr(found, "Settings", None) if inspect.isclass(found) else None
    if model is None or (inspect.isclass(model) and issubclass(model, BaseModel)):
        return model
    raise PluginError(f"{found.__name__}.Settings must be a pydantic BaseModel")


def find_installed(entry_points: Iterable[Loadable] | None = None) -> list[InstalledPlugin]:
    """List the plugins of all installed packages (or of `entry_points`), by name."""
    found = []
    for entry_point in find_entry_points(PLUGINS) if entry_points is None else entry_points:
        name, version = package_of(entry_point)
        found.append(InstalledPlugin(entry_point.name, name, version, entry_point))
    return sorted(found, key=lambda plugin: (plugin.name, plugin.package))


@dataclass(frozen=True, slots=True)
class Selection:
    """The installed plugins to load: those in `allow` (None: all) that are not `disabled`."""

    allow: Collection[str] | None
    disabled: Collection[str]

    def find_missing(self, installed: Collection[str]) -> Iterator[PluginError]:
        """Yield an error for each name in `allow` that no installed package provides."""
        for name in sorted(set(self.allow or ()) - set(installed)):
            yield PluginError(
                f"KAFKAESK_PLUGINS names {name!r}, which no installed package provides"
                f"{did_you_mean(name, installed)} "
                f"(installed are {', '.join(sorted(installed)) or 'none'})",
                plugin=name,
            )

    def reason_to_skip(self, name: str) -> str:
        """Return why a plugin is not loaded; "" if it is."""
        if name in self.disabled:
            return "KAFKAESK_DISABLE_PLUGINS"
        if self.allow is not None and name not in self.allow:
            return "not in KAFKAESK_PLUGINS"
        return ""


def warn_of_unknown(where: str, names: Iterable[str], known: Collection[str]) -> None:
    """Log each unknown name, because its setting has no effect."""
    for name in sorted(set(names) - set(known)):
        hint = did_you_mean(name, known)
        logger.warning("%s: unknown plugin %r is ignored%s", where, name, hint)


def load_each(
    installed: Sequence[InstalledPlugin],
    load: Callable[[InstalledPlugin], bool],
    selection: Selection,
) -> tuple[list[PluginInfo], list[PluginError]]:
    """Call `load` for each selected plugin; `load` returns whether the settings enable it.

    Every plugin is tried. Returns the plugins that are not active, and the failures.
    """
    failures = list(selection.find_missing({plugin.name for plugin in installed}))
    inactive = [_missing_info(str(error.plugin)) for error in failures]
    for plugin in installed:
        if reason := selection.reason_to_skip(plugin.name):
            inactive.append(plugin.info("disabled", reason))
            continue
        try:
            _check_single(plugin.name, installed)
            if not load(plugin):
                inactive.append(plugin.info("disabled", "enabled=false"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, for one: the plugin's code ran
            is_ours = isinstance(error, PluginError)
            cause = str(error) if is_ours else f"{type(error).__name__}: {error}"
            inactive.append(plugin.info("failed", cause))
            failures.append(plugin.failure(cause))
            failures[-1].__cause__ = error
    return inactive, failures


def _missing_info(name: str) -> PluginInfo:
    reason = "KAFKAESK_PLUGINS names it, and no installed package provides it"
    return PluginInfo(name=name, source="no package", value="", status="failed", reason=reason)


def combine_failures(failures: Sequence[PluginError]) -> PluginError:
    """Combine all failures in one error; the first failure is its cause and names its plugin."""
    error = PluginError("\n".join(map(str, failures)), plugin=failures[0].plugin)
    error.__cause__ = failures[0].__cause__
    return error


def _check_single(name: str, installed: Iterable[InstalledPlugin]) -> None:
    packages = [plugin.package for plugin in installed if plugin.name == name]
    if len(packages) > 1:
        raise PluginError(f"it is provided by {' and by '.join(packages)}; uninstall one of them")


def check_plugin_arguments(plugins: object, settings: object, entry_points: object) -> None:
    """Check an application's arguments about plugins.

    Raises:
        ConfigurationError: an argument has the wrong type; the error names it.
    """
    if isinstance(plugins, (str, bytes, Mapping)) or not isinstance(plugins, Iterable):
        raise ConfigurationError(
            f"plugins= takes a list of plugin instances, got {_describe_value(plugins)}"
        )
    given = {} if settings is None else settings
    values = list(given.values()) if isinstance(given, Mapping) else [given]
    if odd := [value for value in values if not isinstance(value, Mapping)]:
        raise ConfigurationError(
            "plugin_settings= takes a mapping of settings for each plugin's name, as in "
            f"{{'audit': {{'level': 'info'}}}}, got {type(odd[0]).__name__}"
        )
    if not isinstance(entry_points, bool):
        raise ConfigurationError(f"entry_points= takes True or False, got {entry_points!r}")


def check_names(argument: str, given: Iterable[str]) -> tuple[str, ...]:
    """Return a list of names as a tuple.

    Raises:
        ConfigurationError: the argument is not a list of names; the error names it.
    """
    is_several = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
    names = tuple(given) if is_several else (None,)
    if not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{argument}= takes a list of names, got {_describe_value(given)}")
    return tuple(str(name) for name in names)


def _describe_value(value: object) -> str:
    return f"the string {value!r}" if isinstance(value, str) else f"{value!r}"


# --- settings of one plugin: code before environment before the model's defaults

# Any below: values of settings, whatever the plugin's model says.
_ENABLED = FieldInfo(annotation=bool, default=True)


def read_settings(
    model: type[BaseModel] | None,
    plugin: str,
    *,
    explicit: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> tuple[BaseModel | None, bool]:
    """Return the plugin's settings, and whether it is enabled.

    The environment variables are KAFKAESK_<PLUGIN>_<FIELD>. A list is JSON or separated by commas;
    an object is JSON. Every plugin has the setting `enabled`, even if it has no settings or no such
    field.

    Raises:
        PluginError: a key is unknown or a value is wrong; the error names the fields, not the
            values.
    """
    prefix = variable_prefix(plugin)
    fields = {"enabled": _ENABLED, **(model.model_fields if model else {})}
    allows_extra = model is not None and model.model_config.get("extra") == "allow"
    values = _from_environment(fields, plugin, environ)
    values |= _from_code(fields, plugin, explicit, allows_extra=allows_extra)
    try:
        return _validate(model, values)
    except ValidationError as error:
        problems = "; ".join(_problem(detail, prefix) for detail in _details(error))
    raise PluginError(f"settings of plugin {plugin!r}: {problems}", plugin=plugin)


def variable_prefix(plugin: str) -> str:
    """Return the prefix of a plugin's environment variables."""
    return f"{PREFIX}{plugin.upper().replace('-', '_')}_"


def variable_names(model: type[BaseModel] | None, plugin: str) -> set[str]:
    """Return the names of a plugin's environment variables."""
    names = {"enabled", *(model.model_fields if model else ())}
    return {f"{variable_prefix(plugin)}{name.upper()}" for name in names}


def _validate(
    model: type[BaseModel] | None, values: dict[str, Any]
) -> tuple[BaseModel | None, bool]:
    """Read `enabled` first: a disabled plugin needs no other settings."""
    if not _SWITCH.validate_python({"enabled": values.get("enabled", True)})["enabled"]:
        return None, False
    if model is None:
        return None, True
    if "enabled" not in model.model_fields:
        values.pop("enabled", None)
    settings = model.model_validate(values)
    return settings, bool(getattr(settings, "enabled", True))


_SWITCH = SchemaValidator(
    core_schema.typed_dict_schema(
        {"enabled": core_schema.typed_dict_field(core_schema.bool_schema())}
    )
)


def _from_environment(
    fields: Mapping[str, FieldInfo],
    plugin: str,
    environ: Mapping[str, str] | None,
) -> dict[str, Any]:
    try:
        values = read_environment(fields, variable_prefix(plugin), environ)
    except ValueError as error:
        raise PluginError(str(error), plugin=plugin) from None
    return {_key(name, fields[name]): value for name, value in values.items()}


def _from_code(
    fields: Mapping[str, FieldInfo],
    plugin: str,
    explicit: Mapping[str, Any],
    *,
    allows_extra: bool,
) -> dict[str, Any]:
    keys = {_key(name, field): _key(name, field) for name, field in fields.items()}
    keys |= {name: _key(name, field) for name, field in fields.items()}
    for name in explicit:
        if name not in keys and not allows_extra:
            raise PluginError(
                f"settings of plugin {plugin!r}: unknown key {name!r}"
                f"{did_you_mean(name, keys)} (known are {', '.join(fields)})",
                plugin=plugin,
            )
    return {keys.get(name, name): value for name, value in explicit.items()}


def _key(name: str, field: FieldInfo) -> str:
    """Return the key from which the model reads this field."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    return alias if isinstance(alias, str) else name


def _details(error: ValidationError) -> list[Any]:  # pydantic_core.ErrorDetails
    return error.errors(include_url=False, include_input=False, include_context=False)


def _problem(detail: Any, prefix: str) -> str:  # pydantic_core.ErrorDetails
    """Return the field, the problem, and the variable to set."""
    path = ".".join(str(part) for part in detail["loc"])
    variable = f"{prefix}{str(detail['loc'][0]).upper()}" if detail["loc"] else f"{prefix}*"
    return f"{path or 'all'}: {detail['msg']} ({variable})"


# --- variables that nothing reads

_ALMOST = "KAFK"
_SURE = 0.9
"""The similarity to a known variable from which a name without the prefix is reported."""


def warn_of_unread(
    list_core: Callable[[], Collection[str]], plugins: Plugins, environ: Mapping[str, str]
) -> None:
    """Log each KAFKAESK_ variable that neither the core nor a plugin reads.

    `list_core` returns the variables of the core; it is called if there are any to compare with.

    A variable with the name of a plugin that is not loaded, or that the service created itself, is
    left to that plugin.
    """
    suspects = [name for name in environ if name.upper().startswith(_ALMOST)]
    if not suspects:
        return
    known = set(list_core())
    if all(name.upper() in known for name in suspects):
        return
    for name, model in _models(plugins):
        known |= variable_names(model, name)
    active = {info.name for info in plugins.list() if info.status == "active"}
    read = {variable_prefix(name) for name, _ in _models(plugins)}
    foreign = {variable_prefix(name) for name in {*active, *_installed_names()}} - read
    for name in _unread(suspects, known, tuple(foreign)):
        logger.warning(
            "the environment variable %s is not a setting and has no effect%s",
            *(name, _hint(name.upper(), known)),
        )


def _hint(name: str, known: Collection[str]) -> str:
    """Suggest a similar name; compare only the parts after the common prefix."""
    from difflib import get_close_matches

    close = get_close_matches(
        name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], n=1
    )
    return f"; did you mean '{PREFIX}{close[0]}'?" if close else ""


def _unread(names: Iterable[str], known: Collection[str], foreign: tuple[str, ...]) -> list[str]:
    from difflib import get_close_matches

    found = []
    for name in sorted(names):
        upper = name.upper()
        if upper in known or (foreign and upper.startswith(foreign)):
            continue
        if upper.startswith(PREFIX) or get_close_matches(upper, known, n=1, cutoff=_SURE):
            found.append(name)
    return found


def _models(plugins: Plugins) -> list[tuple[str, type[BaseModel] | None]]:
    """Return the active plugins that read the environment, with the models of their settings."""
    found = []
    for info in plugins.list():
        if info.status == "active" and info.source != "app":
            plugin = plugins.get(info.name)
            model = getattr(type(plugin), "Settings", None)
            is_model = inspect.isclass(model) and issubclass(model, BaseModel)
            found.append((info.name, model if is_model else None))
    return found


def _installed_names() -> list[str]:
    return [plugin.name for plugin in find_installed()]

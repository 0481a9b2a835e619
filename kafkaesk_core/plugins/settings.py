"""Settings of one plugin: explicit values before the environment before the model's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ValidationError,
)
from pydantic.fields import FieldInfo

from kafkaesk_core.errors import PluginError

from .contract import did_you_mean

__all__ = ["prefix_of", "read_settings", "variables_of"]

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

    The environment has them as KAFKAESK_<PLUGIN>_<FIELD>: lists as JSON or separated by commas,
    objects as JSON. Every plugin has the setting `enabled`, also one without settings or without
    that field.

    Raises:
        PluginError: a key is unknown or a value is wrong; names the fields, not the values.
    """
    prefix = prefix_of(plugin)
    fields = {"enabled": _ENABLED, **(model.model_fields if model else {})}
    allows_extra = model is not None and model.model_config.get("extra") == "allow"
    values = _from_environment(fields, plugin, environ)
    values |= _from_code(fields, plugin, explicit, allows_extra=allows_extra)
    try:
        return _validated(model, values)
    except ValidationError as error:
        problems = "; ".join(_problem(detail, prefix) for detail in _details(error))
    raise PluginError(f"settings of plugin {plugin!r}: {problems}", plugin=plugin)


def prefix_of(plugin: str) -> str:
    """Return what the names of a plugin's environment variables begin with."""
    return f"KAFKAESK_{plugin.upper().replace('-', '_')}_"


def variables_of(model: type[BaseModel] | None, plugin: str) -> set[str]:
    """Return the names of a plugin's environment variables."""
    names = {"enabled", *(model.model_fields if model else ())}
    return {f"{prefix_of(plugin)}{name.upper()}" for name in names}


def _validated(
    model: type[BaseModel] | None, values: dict[str, Any]
) -> tuple[BaseModel | None, bool]:
    """Look at `enabled` first: a plugin that is switched off needs no other setting."""
    if not _Switch.model_validate({"enabled": values.get("enabled", True)}).enabled:
        return None, False
    if model is None:
        return None, True
    if "enabled" not in model.model_fields:
        values.pop("enabled", None)
    settings = model.model_validate(values)
    return settings, bool(getattr(settings, "enabled", True))


class _Switch(BaseModel):
    enabled: bool


def _from_environment(
    fields: Mapping[str, FieldInfo],
    plugin: str,
    environ: Mapping[str, str] | None,
) -> dict[str, Any]:
    from kafkaesk_core.environment import read_environment  # it imports pydantic-settings

    try:
        values = read_environment(fields, prefix_of(plugin), environ)
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
    """Return the key that the model reads this field from."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    return alias if isinstance(alias, str) else name


def _details(error: ValidationError) -> list[Any]:  # pydantic_core.ErrorDetails
    return error.errors(include_url=False, include_input=False, include_context=False)


def _problem(detail: Any, prefix: str) -> str:  # pydantic_core.ErrorDetails
    """Name the field, what is wrong, and the variable to set."""
    path = ".".join(str(part) for part in detail["loc"])
    variable = f"{prefix}{str(detail['loc'][0]).upper()}" if detail["loc"] else f"{prefix}*"
    return f"{path or 'all'}: {detail['msg']} ({variable})"

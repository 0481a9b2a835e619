"""Reads environment variables with pydantic-settings; imported only if one of them is set."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, SecretBytes, SecretStr, create_model
from pydantic.fields import FieldInfo
from pydantic_core import from_json
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

__all__ = ["read_source"]

# Any below: types of fields, and values of settings.
_TEXT = frozenset((str, bytes, SecretStr, SecretBytes))
_LISTS = frozenset((list, tuple, set, frozenset))


def read_source(
    fields: Mapping[str, FieldInfo], prefix: str, environ: Mapping[str, str]
) -> dict[str, Any]:
    """Return the values of the variables as `read_environment` does, and raise its errors."""
    types: dict[str, Any] = {
        name: (Annotated[field.annotation, _Reader(field, f"{prefix}{name.upper()}")], Field(None))
        for name, field in fields.items()
    }

    class Environment(BaseSettings):
        model_config = SettingsConfigDict(env_prefix=prefix, extra="ignore")

    model = create_model("Environment", __base__=Environment, **types)
    try:
        return _Source(model, environ)()
    except SettingsError as error:
        raise ValueError(str(error.__cause__ or error)) from None


class _Reader:
    """Reads the text of one variable."""

    def __init__(self, field: FieldInfo, variable: str) -> None:
        is_union = get_origin(field.annotation) in (Union, UnionType)
        members = get_args(field.annotation) if is_union else (field.annotation,)
        self._kinds = {get_origin(member) or member for member in members} - {NoneType}
        self._splits_itself = any(isinstance(each, BeforeValidator) for each in field.metadata)
        self._variable = variable

    def read(self, text: str) -> Any:
        """Return the value that the text stands for.

        Raises:
            ValueError: it is not valid JSON.
        """
        may_be_text = self._splits_itself or not self._kinds.isdisjoint(_TEXT)
        if text.lstrip()[:1] in ("[", "{") and not self._kinds <= _TEXT:
            try:
                return from_json(text)
            except ValueError as error:
                if may_be_text:
                    return text
                raise ValueError(f"{self._variable} is not valid JSON: {error}") from None
        if may_be_text:
            return text
        if not self._kinds.isdisjoint(_LISTS):
            return [item.strip() for item in text.split(",") if item.strip()]
        if dict in self._kinds:
            raise ValueError(f"{self._variable} must be a JSON object")
        return text


class _Source(EnvSettingsSource):
    """Finds the variables, in upper or lower case; a field's reader parses its text."""

    def __init__(self, model: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(model)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        """Read one variable; None if it is not set."""
        (reader,) = (each for each in field.metadata if isinstance(each, _Reader))
        return None if value is None else reader.read(value)

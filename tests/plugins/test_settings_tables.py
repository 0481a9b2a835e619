"""The table of settings in a plugin's README is that of its settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kafkaesk_cloudevents import CloudEventsSettings
from kafkaesk_headers import HeaderSettings
from kafkaesk_logging import LoggingSettings
from kafkaesk_otel import OTelSettings
from kafkaesk_retry import RetrySettings
from kafkaesk_schemas import SchemasSettings

PLUGINS = Path(__file__).parents[2] / "plugins"
SETTINGS: dict[str, type[BaseModel]] = {
    "cloudevents": CloudEventsSettings,
    "headers": HeaderSettings,
    "logging": LoggingSettings,
    "otel": OTelSettings,
    "retry": RetrySettings,
    "schemas": SchemasSettings,
}


def shown_default(field: FieldInfo) -> str:
    """The default as the tables write it; where that is not obvious, the field says how."""
    extra = field.json_schema_extra
    if isinstance(extra, dict):
        return str(extra["default"])
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, (int, float)):
        return f"{default:g}" if isinstance(default, float) else f"{default}"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


@pytest.mark.parametrize("plugin", SETTINGS)
def test_the_table_of_a_readme_is_that_of_the_settings(plugin: str) -> None:
    readme = (PLUGINS / f"kafkaesk_{plugin}" / "README.md").read_text()
    table = readme.partition("| setting | default | meaning |")[2].partition("\n\n")[0]

    fields = SETTINGS[plugin].model_fields

    assert sorted(table.splitlines()[2:]) == sorted(
        f"| `{name}` | {shown_default(field)} | {field.description} |"
        for name, field in fields.items()
    )

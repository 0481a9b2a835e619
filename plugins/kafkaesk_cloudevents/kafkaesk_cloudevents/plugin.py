"""The plugin: provides the codec for the streams that carry CloudEvents."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from inspect import Parameter
from types import NoneType
from typing import TYPE_CHECKING, get_args

from kafkaesk_core import (
    ConfigurationError,
    hookimpl,
)

from .codec import CloudEventsCodec
from .event import CONTENT_TYPE, PREFIX, CloudEvent
from .reading import event_of, is_event
from .settings import CloudEventsSettings
from .type_names import OPTION, TypeNames, TypeTemplate

if TYPE_CHECKING:
    from kafkaesk_core import (
        IncomingMessage,
        SchemaCall,
        SchemaRegistration,
    )
    from kafkaesk_core.plugin import Codec

__all__ = ["CloudEventsPlugin"]

_ATTRIBUTES = ("specversion", "id", "source", "type", "time", "subject", "dataschema")


class CloudEventsPlugin:
    """Writes and reads CloudEvents on the streams that its settings name, and on no other."""

    name = OPTION
    claimed_options = frozenset({OPTION})
    Settings = CloudEventsSettings

    def __init__(self, settings: CloudEventsSettings | None = None) -> None:
        self.settings = settings = settings or CloudEventsSettings()
        self._types = TypeNames(TypeTemplate(settings.type))
        self._codec = CloudEventsCodec(settings, self._types)
        if settings.streams:
            # Set here, not defined in the class: without streams nothing costs a message anything.
            self.codec = hookimpl(_codec_of(settings.streams, self._codec))
            self.claimed_headers = frozenset(
                (CONTENT_TYPE, *(PREFIX + name for name in _ATTRIBUTES))
            )

    @hookimpl
    async def wrap_schema(self, schema: SchemaRegistration, call_next: SchemaCall) -> None:
        """Refuse, at the start, a type that is not unique."""
        if self.settings.streams:
            self._types.check(schema)
        elif OPTION in schema.options:
            raise ConfigurationError(
                f"schema {schema.key} has the option {OPTION!r}, and no stream carries "
                "CloudEvents; name them in KAFKAESK_CLOUDEVENTS_STREAMS, or with "
                "plugin_settings={'cloudevents': {'streams': [...], 'source': ...}}"
            )
        await call_next(schema)

    @hookimpl
    def schema_registered(self, schema: SchemaRegistration) -> None:
        """Note the type of a schema before the start; `wrap_schema` refuses invalid types."""
        self._types.note(schema)

    @hookimpl
    def bind_parameter(
        self, parameter: Parameter
    ) -> Callable[[IncomingMessage], CloudEvent | None] | None:
        """Fill a handler's parameter that is annotated with `CloudEvent` or `CloudEvent | None`."""
        if parameter.annotation is CloudEvent:
            return event_of
        if set(get_args(parameter.annotation)) == {CloudEvent, NoneType}:
            return lambda message: event_of(message) if is_event(message) else None
        return None


def _codec_of(
    streams: tuple[str, ...], codec: Codec
) -> Callable[[str, SchemaRegistration | None], Codec | None]:
    def find(stream: str, schema: SchemaRegistration | None) -> Codec | None:
        """Write and read CloudEvents on the streams of the settings."""
        return codec if any(fnmatchcase(stream, pattern) for pattern in streams) else None

    return find

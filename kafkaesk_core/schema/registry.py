"""The schemas that a service declares, and the choice of a message's schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, PydanticUserError

from kafkaesk_core.errors import (
    InvalidSchemaError,
    SchemaConflictError,
    SubscriptionError,
    UnknownSchemaError,
)
from kafkaesk_core.message import OutgoingMessage

from .codecs import FindCodec, decode_by_codecs, decode_plain, encode_by_codecs
from .decoding import (
    Decoder,
    Reading,
    Upcasts,
    make_decoder,
    registrations_of,
    takes_record,
)
from .encoding import Encoder, make_encoder

__all__ = ["SchemaRegistration", "Schemas", "TopicSchemas"]

Document = Mapping[str, Any]  # a JSON Schema: any JSON


@dataclass(frozen=True, slots=True, eq=False)
class SchemaRegistration:
    """One version of a schema: a pydantic model or a JSON Schema document.

    `retention` is in seconds. `streams` are the streams whose topics are created at start.
    `envelope=False` writes and reads plain JSON; the stream determines the schema. `options` are
    the plugins' options, by the names that they claim. `declared_in` is the place of the
    declaration: "module.Model" or "module:line".

    Raises:
        InvalidSchemaError: a value is invalid.
    """

    id: str
    version: int = 1
    model: type[BaseModel] | None = None
    document: Document | None = None
    retention: int | None = None
    streams: Sequence[str] = ()
    partitions: int | None = field(default=None, kw_only=True)
    replication_factor: int | None = field(default=None, kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    envelope: bool = field(default=True, kw_only=True)
    declared_in: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise InvalidSchemaError(f"schema {self.id!r}: {problem}", schema=str(self.id))
        object.__setattr__(self, "streams", tuple(self.streams))
        object.__setattr__(self, "declared_in", self.declared_in or _place(self.model))

    @property
    def key(self) -> str:
        """The name on the wire: "Content:1"."""
        return f"{self.id}:{self.version}"

    def differences(self, other: SchemaRegistration) -> list[str]:
        """Return the names of the fields in which the two declarations differ."""
        names = (
            *("model", "document", "retention", "streams"),
            *("partitions", "replication_factor", "options", "envelope"),
        )
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def _problems(self) -> list[str]:
        model, document = self.model, self.document
        checks = (
            (
                isinstance(self.id, str) and self.id and ":" not in self.id,
                "the id must be a name without ':', the version is given on its own",
            ),
            (_is_count(self.version), f"version must be 1 or greater, got {self.version!r}"),
            (
                (model is None) != (document is None),
                "give a pydantic model or a JSON Schema document, one of them",
            ),
            (
                model is None or _is_model(model),
                f"{model!r} is not a pydantic model; derive it from pydantic.BaseModel",
            ),
            (
                document is None or isinstance(document, Mapping),
                f"a JSON Schema document is a dict, not {type(document).__name__}",
            ),
            (
                _are_names(self.streams),
                f"streams must be a list of names, got {self.streams!r}",
            ),
            (
                isinstance(self.options, Mapping) and _are_names(list(self.options)),
                f"options must be a dict of the names that plugins claim, got {self.options!r}",
            ),
            *(
                (
                    value is None or _is_count(value),
                    f"{name} must be 1 or greater, or None, got {value!r}",
                )
                for name in ("retention", "partitions", "replication_factor")
                for value in (getattr(self, name),)
            ),
        )
        found = [problem for holds, problem in checks if not holds]
        if not isinstance(self.envelope, bool):
            found.append(f"envelope must be True or False, got {self.envelope!r}")
        return found


def _are_names(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    return all(isinstance(name, str) and name for name in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_model(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseModel) and value is not BaseModel


def _place(model: type[BaseModel] | None) -> str:
    """Return where a model is defined, else the declaring line, the first outside this package."""
    if model is not None:
        return f"{model.__module__}.{model.__qualname__}"
    package, frame = __name__.partition(".")[0], inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno}" if frame else "?"


Encode = Callable[[OutgoingMessage], bytes | None]


class TopicSchemas(Protocol):
    """The schemas that topics carry."""

    def claim(self, topic: str, schema_id: str) -> None:
        """Note the schema of a topic; raise SchemaConflictError if it carries another schema."""

    def schema_of(self, topic: str) -> str | None:
        """Return the id of the topic's schema, or None."""


class Schemas:
    """Registered schemas by key ("Content:1"); no schema is ever replaced."""

    def __init__(self) -> None:
        self._registrations: dict[str, SchemaRegistration] = {}
        self._encoders: dict[str, Encoder] = {}
        self._by_model: dict[type[BaseModel], Encoder] = {}
        self._incomplete: list[SchemaRegistration] = []

    def __iter__(self) -> Iterator[SchemaRegistration]:
        return iter(self._registrations.values())

    def get(self, key: str) -> SchemaRegistration | None:
        """Return the registration of a key, or None."""
        return self._registrations.get(key)

    def find(self, key: str, topic: str) -> SchemaRegistration:
        """Return the registration of a key, for a message to a topic.

        Raises:
            UnknownSchemaError: no schema has this key.
        """
        found = self._registrations.get(key)
        if found is None:
            raise UnknownSchemaError(
                f"schema {key!r} for topic {topic} is not registered "
                f"(registered: {self._list_keys()}); register it with app.schema()",
                schema=key,
                topic=topic,
            )
        return found

    def of_model(self, model: type[BaseModel]) -> list[SchemaRegistration]:
        """Return the registrations of a model, which may stand for several versions."""
        return [found for found in self if found.model is model]

    def register(self, registration: SchemaRegistration) -> None:
        """Add a schema; a repeated declaration has no effect.

        A model with classes that are not defined yet is prepared when publishing starts, or when it
        is first published.

        Raises:
            SchemaConflictError: another declaration has this key.
            InvalidSchemaError: the model or document is invalid.
        """
        self._check(registration)
        key = registration.key
        if key in self._registrations:
            return
        if _is_complete(registration):
            self._prepare(registration)
        else:
            self._incomplete.append(registration)
        self._registrations[key] = registration

    def _prepare(self, registration: SchemaRegistration) -> None:
        self._encoders[registration.key] = encoder = make_encoder(registration)
        if registration.model is not None:
            # A model of several versions publishes its latest one.
            versions = [
                one for one in self.of_model(registration.model) if one.key in self._encoders
            ]
            latest = max([registration, *versions], key=lambda found: found.version)
            self._by_model[registration.model] = self._encoders.get(latest.key, encoder)

    def complete(self) -> None:
        """Prepare the models whose classes were not defined at registration.

        Raises:
            InvalidSchemaError: a class is still not defined, or the model is invalid.
        """
        while self._incomplete:
            registration = self._incomplete[-1]
            if not _is_complete(registration):
                raise InvalidSchemaError(
                    f"schema {registration.key}: {registration.declared_in} "
                    f"{_missing(registration)}; define it at module level before the application "
                    "starts, or call model_rebuild() on the model where it is defined",
                    schema=registration.key,
                )
            self._prepare(registration)
            self._incomplete.pop()

    def check(self, others: Schemas) -> None:
        """Check that other schemas could be added.

        Raises:
            SchemaConflictError: a key is declared differently here.
        """
        for registration in others:
            self._check(registration)

    def _check(self, registration: SchemaRegistration) -> None:
        key = registration.key
        existing = self._registrations.get(key)
        if existing is not None and (different := existing.differences(registration)):
            raise SchemaConflictError(
                f"schema {key} is declared in {existing.declared_in} and again in "
                f"{registration.declared_in}, with another {', '.join(different)}; "
                "give the second another id or version",
                schema=key,
            )

    # --- out

    @property
    def encoders(self) -> Mapping[type[Any], Encoder]:
        """The encoder of the latest version of each model; it follows later registrations."""
        return self._by_model

    def encoding(
        self, topics: TopicSchemas, *, validate: bool, codec: FindCodec | None = None
    ) -> Encode:
        """Return a function that encodes a message, and notes its schema for it and its topic.

        `codec` finds the codecs of plugins; None if there are none. Bytes and None, from
        `raw_publish`, stay unchanged. `validate` is passed to `Encoder.encode`. The function
        raises:
            UnknownSchemaError: no schema is registered for the data, or under the given name.
            SchemaConflictError: the topic carries another schema.
            InvalidMessageError: the data does not satisfy the schema.
            InvalidSchemaError: a model names a class that is not defined.
        """
        # Any below: data is whatever the caller publishes.
        self.complete()
        by_type: Mapping[type[Any], Encoder] = self._by_model
        schema_of, claim = topics.schema_of, topics.claim

        def encode(message: OutgoingMessage) -> bytes | None:
            data = message.data
            if data is None or isinstance(data, bytes):
                return data
            encoder = by_type.get(type(data)) if message.schema is None else None
            if encoder is None:
                encoder = self._encoder_for(message, topics)
            topic = message.topic
            carried = schema_of(topic)
            if carried != encoder.id and carried is not None:
                claim(topic, encoder.id)
            value = encoder.encode(data, topic, validate)
            if carried is None:
                claim(topic, encoder.id)
            message.schema = encoder.key
            return value

        if codec is None:
            return encode
        return encode_by_codecs(encode, codec, self._registrations.get, self._content_of)

    def _content_of(self, key: str, value: bytes) -> bytes:
        """Return the data of an envelope that was encoded here."""
        return self._encoders[key].content_of(value)

    def _encoder_for(self, message: OutgoingMessage, topics: TopicSchemas) -> Encoder:
        data, key = message.data, message.schema
        self.complete()
        if key is not None:
            return self._find_encoder(key, message)
        if isinstance(data, BaseModel):
            if found := self._by_model.get(type(data)):
                return found  # it was not complete before
            raise self._unregistered_error(type(data), message.topic)
        carried = topics.schema_of(message.topic)
        versions = [found for found in self if found.id == carried]
        if not versions:
            raise UnknownSchemaError(
                f"data for topic {message.topic} names no schema and the topic carries none yet; "
                f'say schema="Content:1" (registered: {self._list_keys()})',
                topic=message.topic,
            )
        return self._encoders[max(versions, key=lambda found: found.version).key]

    def _find_encoder(self, key: str, message: OutgoingMessage) -> Encoder:
        found = self.find(key, message.topic)
        data = message.data
        if isinstance(data, BaseModel) and type(data) is not found.model:
            place = f"{type(data).__module__}.{type(data).__qualname__}"
            raise SchemaConflictError(
                f"schema {key} for topic {message.topic} is {found.declared_in}, and the data is "
                f"an instance of {place}; leave schema= out, or publish the other model",
                schema=key,
                topic=message.topic,
            )
        return self._encoders[key]

    def _unregistered_error(self, model: type[BaseModel], topic: str) -> UnknownSchemaError:
        parent = next((base for base in model.__mro__[1:] if base in self._by_model), None)
        derived = ""
        if parent is not None:
            derived = f" (it derives from {parent.__name__}, which is {self._by_model[parent].key})"
        return UnknownSchemaError(
            f"model {model.__module__}.{model.__qualname__} for topic {topic} is not "
            f"registered{derived}; register it with @app.schema() "
            f"(registered: {self._list_keys()})",
            topic=topic,
        )

    def _list_keys(self) -> str:
        return ", ".join(sorted(self._registrations)) or "none"

    # --- in

    def decoder(
        self,
        annotation: Any,
        *,
        envelope: bool | None = None,
        upcasts: Upcasts = lambda _: {},
        codec: FindCodec | None = None,
    ) -> Decoder:
        """Return the decoder for the annotation of a handler's first parameter.

        `envelope=False` reads plain JSON; None reads it for models registered with
        `envelope=False`. `upcasts` are functions for the data of older versions; `codec` finds
        codecs of plugins.

        Raises:
            SubscriptionError: the annotation cannot be decoded to.
        """
        decode = make_decoder(annotation, Reading(self.of_model, upcasts))
        if takes_record(annotation):
            return decode
        found = registrations_of(annotation, self.of_model)
        if _is_plain(found, envelope):
            plain = make_decoder(annotation, Reading(lambda _: [], form="plain"))
            return decode_plain(plain, found[-1].key if len(found) == 1 else "")
        if codec is None:
            return decode
        coded = make_decoder(annotation, Reading(self.of_model, upcasts, form="data"))
        return decode_by_codecs(decode, coded, codec, found[-1] if found else None)


def _is_plain(found: Sequence[SchemaRegistration], envelope: bool | None) -> bool:
    """Whether records have no envelope, by the subscription's or the schemas' setting."""
    if envelope is not None or not found:
        return envelope is False
    if len({registration.envelope for registration in found}) > 1:
        names = ", ".join(each.key for each in found if not each.envelope)
        raise SubscriptionError(
            f"its models are registered with and without an envelope ({names}: without); say "
            "envelope=True or envelope=False at subscribe"
        )
    return not found[0].envelope


def _is_complete(registration: SchemaRegistration) -> bool:
    """Whether all classes in a model are defined; a document has no classes."""
    model = registration.model
    if model is None or model.__pydantic_complete__:
        return True
    try:
        return bool(model.model_rebuild(raise_errors=False))
    except PydanticUserError as error:
        raise InvalidSchemaError(
            f"schema {registration.key}: pydantic cannot build {registration.declared_in}: {error}",
            schema=registration.key,
        ) from error


def _missing(registration: SchemaRegistration) -> str:
    """Return a description of the undefined name in a model."""
    try:
        assert registration.model is not None
        registration.model.model_rebuild()
    except NameError as error:
        return f"names {error.name!r}, which is not defined"
    except PydanticUserError as error:
        return f"cannot be built: {error}"
    return "was not complete"

"""`Application` and `Router` with the arguments of kafkaesk 0.8."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import Delivery, Header, SchemaRegistration

from .topics import KafkaTopicManager

__all__ = ["Application", "Router", "run"]

# Any below: handlers, options and data of every kind, as the core takes them.


class _GroupRequired:
    """Requires a group for each subscription, as 0.8 does, instead of the function's name."""

    def subscribe(self, stream_id: str, group: str, **options: Any) -> Callable[[Any], Any]:
        """Subscribe a handler to a pattern of streams."""
        return super().subscribe(stream_id, group, **options)  # type: ignore[misc,no-any-return]  # of the router

    def subscribe_to_pattern(
        self, pattern: str, group: str, **options: Any
    ) -> Callable[[Any], Any]:
        """Subscribe a handler to a pattern of streams."""
        return super().subscribe_to_pattern(pattern, group, **options)  # type: ignore[misc,no-any-return]

    def subscribe_to_topics(
        self, topics: Sequence[str], group: str, **options: Any
    ) -> Callable[[Any], Any]:
        """Subscribe a handler to streams by their names."""
        return super().subscribe_to_topics(topics, group, **options)  # type: ignore[misc,no-any-return]


class Router(_GroupRequired, kafkaesk_core.Router):  # type: ignore[misc]  # it requires more
    """A router of kafkaesk-core whose subscriptions require a group."""


class Application(_GroupRequired, kafkaesk_core.Application):  # type: ignore[misc]
    """An application of kafkaesk-core with the constructor and the helpers of 0.8.

    An unregistered model is published under the name of its class, as version 1.
    """

    def __init__(
        self,
        kafka_servers: Sequence[str] | None = None,
        topic_prefix: str = "",
        kafka_settings: Mapping[str, Any] | None = None,
        replication_factor: int | None = None,
        kafka_api_version: str = "auto",
        auto_commit: bool = True,
        **settings: Any,
    ) -> None:
        self._topic_manager: KafkaTopicManager | None = None
        super().__init__(
            *(kafka_servers, topic_prefix, kafka_settings, replication_factor, kafka_api_version),
            auto_commit,
            **settings,
        )

    @property
    def kafka_settings(self) -> Mapping[str, Any]:
        """The options of the Kafka clients."""
        return self.settings.kafka_settings

    @property
    def auto_commit(self) -> bool:
        """Whether handled records are committed automatically."""
        return self.settings.auto_commit

    @property
    def is_configured(self) -> bool:
        """Whether servers are configured."""
        return bool(self.settings.kafka_servers)

    @property
    def topic_mng(self) -> KafkaTopicManager:
        """The manager of topics: names, existence, creation, and offsets of groups."""
        if self._topic_manager is None:
            self._topic_manager = KafkaTopicManager.of(self.settings)
        return self._topic_manager

    def configure(
        self,
        kafka_servers: Sequence[str] | str | None = None,
        topic_prefix: str | None = None,
        kafka_settings: Mapping[str, Any] | None = None,
        *more: Any,
        api_version: str | None = None,
        **settings: Any,
    ) -> None:
        """Change settings; a setting that is omitted or None keeps its value.

        The fourth argument is `api_version` in 0.8 and `replication_factor` here: text is taken as
        the former, a number as the latter.
        """
        if more and isinstance(more[0], str):
            api_version, *rest = more
            more = (*rest[:1], api_version, *rest[1:]) if rest else (None, api_version)
        elif api_version is not None:
            settings.setdefault("kafka_api_version", api_version)
        super().configure(kafka_servers, topic_prefix, kafka_settings, *more, **settings)
        self._topic_manager = None

    def get_schema_reg(self, model_or_def: object) -> SchemaRegistration | None:
        """Return the registration of a model or of a model's instance."""
        model = model_or_def if isinstance(model_or_def, type) else type(model_or_def)
        return next((found for found in self.schemas.values() if found.model is model), None)

    async def publish(
        self,
        stream_id: str,
        data: Any,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        **options: Any,
    ) -> Delivery:
        """Publish a model, registered or not."""
        is_model = isinstance(data, BaseModel) and options.get("schema") is None
        if is_model and self.get_schema_reg(data) is None:
            self.schema(type(data).__name__)(type(data))
        return await super().publish(stream_id, data, key, headers, **options)

    async def finalize(self) -> None:
        """Stop and disconnect, including the topic manager."""
        await super().finalize()
        if self._topic_manager is not None:
            await self._topic_manager.finalize()
            self._topic_manager = None


def run(app: kafkaesk_core.Application | None = None) -> None:
    """Run an application until a signal; without an argument, the one named on the command line."""
    if app is None:
        runpy.run_module("kafkaesk_core", run_name="__main__")
    else:
        kafkaesk_core.run(app)

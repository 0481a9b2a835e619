"""Embedded broker, pytest fixtures and the conformance kit of kafkaesk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .cluster import KafkaCluster
from .embedded_broker import DISCONNECT, ApiKey, EmbeddedBroker, Request
from .errors import KafkaBrokerError, KafkaTestingError, KafkaUnavailableError
from .node import KafkaNode
from .properties import Listener
from .sources import Kafka, find_kafka
from .waiting import consuming, eventually

if TYPE_CHECKING:
    from .conformance import check_plugin
    from .handler_harness import Harness, Outcome, harness

__all__ = [
    "DISCONNECT",
    "ApiKey",
    "EmbeddedBroker",
    "Harness",
    "Kafka",
    "KafkaBrokerError",
    "KafkaCluster",
    "KafkaNode",
    "KafkaTestingError",
    "KafkaUnavailableError",
    "Listener",
    "Outcome",
    "Request",
    "check_plugin",
    "consuming",
    "eventually",
    "find_kafka",
    "harness",
]


def __getattr__(name: str) -> Any:  # of the names below
    # These import the library and its client; pytest imports this package at the start of every
    # run.
    if name == "check_plugin":
        from .conformance import check_plugin

        return check_plugin
    if name in ("Harness", "Outcome", "harness"):
        from . import handler_harness as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

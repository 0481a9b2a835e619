"""Embedded broker, pytest fixtures and the conformance kit of kafkaesk."""

from .cluster import KafkaCluster
from .embedded_broker import DISCONNECT, ApiKey, EmbeddedBroker, Request
from .errors import KafkaBrokerError, KafkaTestingError, KafkaUnavailableError
from .node import KafkaNode
from .properties import Listener
from .source import Kafka, find_kafka
from .waiting import eventually

__all__ = [
    "DISCONNECT",
    "ApiKey",
    "EmbeddedBroker",
    "Kafka",
    "KafkaBrokerError",
    "KafkaCluster",
    "KafkaNode",
    "KafkaTestingError",
    "KafkaUnavailableError",
    "Listener",
    "Request",
    "eventually",
    "find_kafka",
]

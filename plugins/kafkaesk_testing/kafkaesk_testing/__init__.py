"""Embedded broker, pytest fixtures and the conformance kit of kafkaesk."""

from .cluster import KafkaCluster
from .errors import KafkaBrokerError, KafkaTestingError, KafkaUnavailableError
from .node import KafkaNode
from .properties import Listener
from .source import Kafka, find_kafka

__all__ = [
    "Kafka",
    "KafkaBrokerError",
    "KafkaCluster",
    "KafkaNode",
    "KafkaTestingError",
    "KafkaUnavailableError",
    "Listener",
    "find_kafka",
]

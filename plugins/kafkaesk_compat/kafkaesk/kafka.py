"""The names of kafkaesk.kafka."""

from kafkaesk_compat.topics import KafkaTopicManager

__all__ = ["KafkaTopicManager"]

"""Structured logs to Kafka for kafkaesk: pydantic models, context, and never in the way."""

from __future__ import annotations

from .buffer import LogStats
from .handler import PydanticKafkaeskHandler
from .line import PydanticLogModel
from .plugin import Logging, LoggingSettings
from .queues import KafkaeskQueue
from .record import (
    LogModel,
    PydanticLogRecord,
    factory,
    install_record_factory,
    uninstall_record_factory,
)
from .streams import PydanticStreamHandler

__all__ = [
    "KafkaeskQueue",
    "LogModel",
    "LogStats",
    "Logging",
    "LoggingSettings",
    "PydanticKafkaeskHandler",
    "PydanticLogModel",
    "PydanticLogRecord",
    "PydanticStreamHandler",
    "factory",
    "install_record_factory",
    "uninstall_record_factory",
]

"""Structured logs to Kafka for kafkaesk: pydantic models, context, and never in the way."""

from .buffer import LogStats
from .envelope import PydanticLogModel
from .handler import PydanticKafkaeskHandler
from .plugin import Logging, LoggingPlugin
from .queue import KafkaeskQueue
from .record_factory import (
    LogModel,
    PydanticLogRecord,
    factory,
    install_record_factory,
    uninstall_record_factory,
)
from .settings import LoggingSettings
from .stream_handler import PydanticStreamHandler

__all__ = [
    "KafkaeskQueue",
    "LogModel",
    "LogStats",
    "Logging",
    "LoggingPlugin",
    "LoggingSettings",
    "PydanticKafkaeskHandler",
    "PydanticLogModel",
    "PydanticLogRecord",
    "PydanticStreamHandler",
    "factory",
    "install_record_factory",
    "uninstall_record_factory",
]

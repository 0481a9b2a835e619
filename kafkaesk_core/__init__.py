"""Publish and subscribe to events with Python and Kafka."""

from .app import Application
from .bootstrap import Bootstrap
from .delivery import Delivery
from .errors import (
    AuthenticationError,
    AuthorizationError,
    BrokerError,
    BrokerUnreachableError,
    CommitError,
    ConfigurationError,
    DecodeError,
    DeliveryError,
    DeliveryFailedError,
    DeliveryUnknownError,
    Disposition,
    HandlerError,
    HandlerTimeoutError,
    InvalidMessageError,
    InvalidSchemaError,
    KafkaeskError,
    MessageTooLargeError,
    NotConfiguredError,
    NotRunningError,
    PluginError,
    Retry,
    SchemaConflictError,
    SchemaError,
    Skip,
    Stop,
    SubscriptionError,
    TopicError,
    UnhealthyError,
    UnknownSchemaError,
)
from .hooks import HOOK_API, hookimpl
from .message import App, Data, Header, Headers, IncomingMessage, OutgoingMessage, RebalanceEvent
from .plugins.registry import PluginInfo, Plugins
from .router import Router
from .schema.registration import SchemaRegistration
from .service import run, run_app
from .settings import Settings
from .status import GroupStatus, Health, PartitionStatus, Status
from .subscriber import Subscriber
from .subscription import Subscription

__all__ = [
    "HOOK_API",
    "App",
    "Application",
    "AuthenticationError",
    "AuthorizationError",
    "Bootstrap",
    "BrokerError",
    "BrokerUnreachableError",
    "CommitError",
    "ConfigurationError",
    "Data",
    "DecodeError",
    "Delivery",
    "DeliveryError",
    "DeliveryFailedError",
    "DeliveryUnknownError",
    "Disposition",
    "GroupStatus",
    "HandlerError",
    "HandlerTimeoutError",
    "Header",
    "Headers",
    "Health",
    "IncomingMessage",
    "InvalidMessageError",
    "InvalidSchemaError",
    "KafkaeskError",
    "MessageTooLargeError",
    "NotConfiguredError",
    "NotRunningError",
    "OutgoingMessage",
    "PartitionStatus",
    "PluginError",
    "PluginInfo",
    "Plugins",
    "RebalanceEvent",
    "Retry",
    "Router",
    "SchemaConflictError",
    "SchemaError",
    "SchemaRegistration",
    "Settings",
    "Skip",
    "Status",
    "Stop",
    "Subscriber",
    "Subscription",
    "SubscriptionError",
    "TopicError",
    "UnhealthyError",
    "UnknownSchemaError",
    "hookimpl",
    "run",
    "run_app",
]

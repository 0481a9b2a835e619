"""The names of the messaging semantic conventions 1.44.0, which are still in development.

https://github.com/open-telemetry/semantic-conventions/tree/v1.44.0/docs/messaging
"""

from __future__ import annotations

from typing import Final

from kafkaesk_core import DeliveryError, HandlerTimeoutError

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM: Final = "messaging.system"
KAFKA: Final = "kafka"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION_NAME: Final = "messaging.destination.name"
DESTINATION_TEMPLATE: Final = "messaging.destination.template"
PARTITION_ID: Final = "messaging.destination.partition.id"
GROUP_NAME: Final = "messaging.consumer.group.name"
BATCH_COUNT: Final = "messaging.batch.message_count"
BODY_SIZE: Final = "messaging.message.body.size"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
MESSAGE_ID: Final = "messaging.message.id"
OFFSET: Final = "messaging.kafka.offset"
MESSAGE_KEY: Final = "messaging.kafka.message.key"
TOMBSTONE: Final = "messaging.kafka.message.tombstone"
HEADER: Final = "messaging.header."
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
FUNCTION_NAME: Final = "code.function.name"

OPERATION_DURATION: Final = "messaging.client.operation.duration"
SENT_MESSAGES: Final = "messaging.client.sent.messages"
CONSUMED_MESSAGES: Final = "messaging.client.consumed.messages"
PROCESS_DURATION: Final = "messaging.process.duration"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

# Not part of the conventions.
SCHEMA: Final = "kafkaesk.schema"
ATTEMPT: Final = "kafkaesk.attempt"
DISPOSITION: Final = "kafkaesk.disposition"
CANCELLED: Final = "kafkaesk.cancelled"
LAG: Final = "kafkaesk.consumer.lag"

# --- error.type: of low cardinality
# https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/general/recording-errors.md

TIMEOUT = "timeout"


def error_type(error: BaseException) -> str:
    """Return Kafka's name for a broker's answer, "timeout", or the class as "module.Name"."""
    from aiokafka.errors import BrokerResponseError

    cause = error.__cause__ if isinstance(error, DeliveryError) and error.__cause__ else error
    if isinstance(cause, BrokerResponseError):
        return str(cause.message)
    if isinstance(cause, HandlerTimeoutError):
        return TIMEOUT
    kind = type(cause)
    return kind.__qualname__ if kind.__module__ == "builtins" else full_name(kind)


def full_name(kind: type) -> str:
    """Return a class's name, with its module unless it is a builtin."""
    return f"{kind.__module__}.{kind.__qualname__}"

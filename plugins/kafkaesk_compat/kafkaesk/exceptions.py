"""The names of kafkaesk.exceptions; each is the class that kafkaesk-core raises instead."""

from kafkaesk_compat.forward import forward

__getattr__, __dir__ = forward(
    __name__,
    {
        "AppNotConfiguredException": "kafkaesk_core:NotConfiguredError",
        "AutoCommitError": "kafkaesk_core:CommitError",
        "ConsumerUnhealthyException": "kafkaesk_core:UnhealthyError",
        "HandlerTaskCancelled": "kafkaesk_core:HandlerTimeoutError",
        "JsonSchemaRequiredException": "kafkaesk_core:InvalidSchemaError",
        "ProducerUnhealthyException": "kafkaesk_core:UnhealthyError",
        "SchemaConflictException": "kafkaesk_core:SchemaConflictError",
        "StopConsumer": "kafkaesk_core:Stop",
        "UnhandledMessage": "kafkaesk_core:DecodeError",
    },
)

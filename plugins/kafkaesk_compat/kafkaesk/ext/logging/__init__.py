"""The names of kafkaesk.ext.logging, from the package kafkaesk-logging."""

from kafkaesk_compat.forward import forward

__getattr__, __dir__ = forward(
    __name__,
    {
        "PydanticKafkaeskHandler": "kafkaesk_logging:PydanticKafkaeskHandler",
        "PydanticLogModel": "kafkaesk_logging:PydanticLogModel",
        "PydanticStreamHandler": "kafkaesk_logging:PydanticStreamHandler",
    },
)

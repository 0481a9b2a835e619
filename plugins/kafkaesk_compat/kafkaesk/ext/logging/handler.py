"""The names of kafkaesk.ext.logging.handler."""

from kafkaesk_compat.forward import forward

__getattr__, __dir__ = forward(
    __name__,
    {
        "KafkaeskQueue": "kafkaesk_logging:KafkaeskQueue",
        "PydanticKafkaeskHandler": "kafkaesk_logging:PydanticKafkaeskHandler",
        "PydanticLogModel": "kafkaesk_logging:PydanticLogModel",
        "PydanticStreamHandler": "kafkaesk_logging:PydanticStreamHandler",
    },
)

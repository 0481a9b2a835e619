"""The names of kafkaesk.ext.logging.record."""

from kafkaesk_compat.forward import forward

__getattr__, __dir__ = forward(
    __name__,
    {
        "PydanticLogRecord": "kafkaesk_logging:PydanticLogRecord",
        "factory": "kafkaesk_logging:factory",
    },
)

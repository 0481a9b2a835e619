"""The names of kafkaesk.consumer."""

from kafkaesk_compat.forward import forward

__getattr__, __dir__ = forward(
    __name__,
    {
        "BatchConsumer": "kafkaesk_core:Subscriber",
        "Subscription": "kafkaesk_core:Subscription",
    },
)

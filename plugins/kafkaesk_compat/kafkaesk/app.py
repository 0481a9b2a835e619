"""The names of kafkaesk.app."""

from kafkaesk_compat.forward import forward

__getattr__, __dir__ = forward(
    __name__,
    {
        "Application": "kafkaesk_compat.application:Application",
        "BatchConsumer": "kafkaesk_core:Subscriber",
        "Router": "kafkaesk_compat.application:Router",
        "SchemaRegistration": "kafkaesk_core:SchemaRegistration",
        "Subscription": "kafkaesk_core:Subscription",
        "run": "kafkaesk_compat.application:run",
        "run_app": "kafkaesk_core:run_app",
    },
)

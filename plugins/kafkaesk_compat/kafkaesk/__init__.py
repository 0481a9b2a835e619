"""The names of kafkaesk 0.8. New code imports kafkaesk_core."""

from kafkaesk_compat.forward import forward
from kafkaesk_compat.original import check_original

check_original()
__getattr__, __dir__ = forward(
    __name__,
    {
        "Application": "kafkaesk_compat.application:Application",
        "BatchConsumer": "kafkaesk_core:Subscriber",
        "Router": "kafkaesk_compat.application:Router",
        "Subscription": "kafkaesk_core:Subscription",
        "run": "kafkaesk_compat.application:run",
        "run_app": "kafkaesk_core:run_app",
    },
)

from .asgi import asgi
from .metrics import Collector
from .plugin import Ops, OpsSettings

__all__ = ["Collector", "Ops", "OpsSettings", "asgi"]

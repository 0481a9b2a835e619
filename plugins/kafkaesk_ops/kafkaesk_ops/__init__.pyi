from .asgi import asgi
from .metrics import Collector
from .plugin import Ops, OpsPlugin, OpsSettings

__all__ = ["Collector", "Ops", "OpsPlugin", "OpsSettings", "asgi"]

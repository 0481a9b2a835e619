"""Publish and subscribe to events with Python and Kafka.

The public names stand in `__init__.pyi`. Each is imported at its first use, so that the command
line starts quickly.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Publish and subscribe to events with Python and Kafka.

`__init__.pyi` lists the public names. Each one is imported at its first use, so the command line
starts quickly.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Contracts for kafkaesk: frozen schemas, compatibility with reasons, upcasting.

The public names stand in `__init__.pyi`. Each is imported at its first use, so that
`kafkaesk --help`, which imports the command `kafkaesk schemas`, loads no client of Kafka.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

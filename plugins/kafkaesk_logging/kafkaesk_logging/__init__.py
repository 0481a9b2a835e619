"""Structured logs to Kafka for kafkaesk: pydantic models, context, and never in the way.

The public names stand in `__init__.pyi`. Each is imported at its first use, so that
`kafkaesk --help`, which imports the command `kafkaesk logs`, loads no client of Kafka.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

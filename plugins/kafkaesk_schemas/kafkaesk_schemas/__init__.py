"""Contracts for kafkaesk: frozen schemas, compatibility with reasons, upcasting.

`__init__.pyi` lists the public names. Each one is imported at its first use, so that `kafkaesk
--help`, which imports the command `kafkaesk schemas`, loads no Kafka client.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

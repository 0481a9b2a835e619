"""Retries, dead letters and their replay for kafkaesk.

`__init__.pyi` lists the public names. Each one is imported at its first use, so that `kafkaesk
--help`, which imports the command `kafkaesk dead`, loads no Kafka client.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

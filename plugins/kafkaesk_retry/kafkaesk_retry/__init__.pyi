"""Retries, dead letters and their replay, for kafkaesk."""

from .failure import AttemptsExhaustedError
from .plugin import RetryPlugin
from .policy import Retries, retries
from .settings import RetrySettings

__all__ = [
    "AttemptsExhaustedError",
    "Retries",
    "RetryPlugin",
    "RetrySettings",
    "retries",
]

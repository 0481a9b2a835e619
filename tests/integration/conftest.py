"""A connection, task or coroutine that a test leaves behind fails this test, not a later one."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _collect_what_is_left() -> Iterator[None]:
    yield
    gc.collect()

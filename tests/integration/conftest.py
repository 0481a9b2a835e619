"""A connection, task or coroutine that a test leaves behind fails this test, not a later one."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkaesk_testing import KafkaCluster


@pytest.fixture(autouse=True)
def _collect_what_is_left() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="session")
def _one_node(kafka_jars: Path) -> Iterator[KafkaCluster]:
    with KafkaCluster(1) as cluster:
        yield cluster


@pytest.fixture
def broker(_one_node: KafkaCluster) -> KafkaCluster:
    """A broker to be killed; it runs when a test begins, with the topics of earlier ones."""
    _one_node.heal()
    return _one_node

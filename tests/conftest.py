"""A broker that tests may kill, one for all of them: a start takes seconds."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from kafkaesk_testing import KafkaCluster


@pytest.fixture(scope="session")
def _one_node(kafka_jars: Path) -> Iterator[KafkaCluster]:
    with KafkaCluster(1) as cluster:
        yield cluster


@pytest.fixture
def broker(_one_node: KafkaCluster) -> KafkaCluster:
    """A cluster of one; it runs when a test begins, with the topics of earlier ones."""
    _one_node.heal()
    return _one_node


@pytest.fixture(autouse=True)
def _collect_what_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves behind (a connection, a task) fails this test, not a later one."""
    yield
    if any(name.startswith(("kafka", "embedded")) for name in request.fixturenames):
        gc.collect()


PROMISES = {
    "rule_": (41, "a rule of the engine"),
    "s": (18, "a promise of the README"),
    "f": (53, "a fault of the fault suite"),
    "u": (44, "a defect of kafkaesk 0.8"),
    "k": (69, "a fact about Apache Kafka or aiokafka"),
    "d": (40, "a decision"),
}
"""What a test shows, as markers: `pytest -m rule_18`. docs/rules.md says what each one means."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the promises as markers, and leave failures to the core, as its tests expect."""
    os.environ.setdefault("KAFKAESK_RETRY_ENABLED", "false")  # installed, it answers them all
    for letter, (last, kind) in PROMISES.items():
        for number in range(1, last + 1):
            config.addinivalue_line("markers", f"{letter}{number}: {kind}")


# A busy machine may pause for longer than the deadline of an example.
settings.register_profile("kafkaesk", deadline=None)
settings.load_profile("kafkaesk")

LONGEST_FIRST = ("project/test_pythons", "project/test_wheels", "faults/test_scenarios")
"""Begun last, each of them would keep one worker busy while the other has nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; pytest-xdist hands files out in this order."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST_FIRST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line each which Pythons were not found."""
    skips = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for missing in sorted(
        {m for s in skips for m in re.findall(r"Python [\d.]+ was not found.*?(?=')", s)}
    ):
        terminalreporter.line(missing, yellow=True)

"""The pytest fixtures: one real broker, a cluster of three, and the embedded broker.

Every pytest run imports this module if the package is installed, so it must not import a Kafka
client.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
import pytest_asyncio

from .cluster import KafkaCluster
from .embedded_broker import EmbeddedBroker
from .errors import KafkaBrokerError, KafkaUnavailableError
from .kafka_install import find_java
from .sources import Kafka, find_kafka

if TYPE_CHECKING:
    from kafkaesk_core import Application

_T = TypeVar("_T")
_REAL = {"kafka", "kafka_cluster", "kafka_jars"}
_MARKER = "kafka: needs real Apache Kafka (KAFKA=host:port, Java and Maven, or Docker)"
_NEEDED = "needs real Kafka: "
_ANY_SOURCE = "install Java 17 and Maven, or Docker, or set KAFKA=host:port"
_CLUSTER_SOURCE = "install Java 17 and Maven"


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A real broker for the whole run, with `servers` and `host_port`.

    The broker does not create topics automatically, and new topics get one partition. If no broker
    is available, the test is skipped, or fails if the environment has ``CI=true``.
    """
    with _found(find_kafka, remedy=_ANY_SOURCE) as running:
        yield running


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """The directory of Kafka's jars; a test that uses this may start its own `KafkaCluster`.

    Without Java and Maven the test is skipped, or fails if the environment has ``CI=true``.
    """
    return _found(find_java, remedy=_CLUSTER_SOURCE).jars


@pytest.fixture(scope="module")
def _three_nodes(kafka_jars: Path) -> Iterator[KafkaCluster]:
    with KafkaCluster(3) as cluster:
        yield cluster


@pytest.fixture
def kafka_cluster(_three_nodes: KafkaCluster) -> KafkaCluster:
    """Three brokers that can be killed, frozen and restarted; all run when a test begins.

    One cluster serves a module, so topics and groups of earlier tests still exist.
    """
    _three_nodes.heal()
    return _three_nodes


@pytest_asyncio.fixture
async def kafkaesk_app(kafka: Kafka) -> AsyncIterator[Application]:
    """An application on real Kafka, with its own topic prefix and no installed plugins.

    It is not started; what the test leaves running is stopped.
    """
    app = new_application(kafka.servers)
    yield app
    await app.finalize()


@pytest_asyncio.fixture
async def embedded_app() -> AsyncIterator[Application]:
    """An application on ``embedded://``, with its own broker and no installed plugins.

    It is not started; what the test leaves running is stopped. Topics appear on first use.
    """
    app = new_application(["embedded://"])
    yield app
    await app.finalize()


@pytest.fixture
def embedded_kafka() -> Iterator[EmbeddedBroker]:
    """A broker inside this process, fresh for each test; its limits are in the README.

    It is for any Kafka client. For a kafkaesk application, use ``embedded_app``.
    """
    with EmbeddedBroker() as broker:
        yield broker


def new_application(servers: Sequence[str]) -> Application:
    """Return an application with its own topics, few partitions and quick rebalances."""
    from kafkaesk_core import Application  # the library is imported where it is used

    return Application(
        servers,
        f"test-{uuid.uuid4().hex[:12]}.",
        {"heartbeat_interval_ms": 300, "metadata_max_age_ms": 1000},
        entry_points=False,
        partitions=3,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that use a real broker, before ``-m`` selects."""
    if _REAL.intersection(getattr(item, "fixturenames", ())):
        item.add_marker("kafka")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the brokers' logs if a test that uses the brokers fails, and report their place."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {}).values()
        for cluster in {value for value in used if isinstance(value, KafkaCluster)}:
            cluster.keep_logs = True
            report.sections.append(("Kafka's logs", str(cluster.directory)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report in one line the number of tests without Kafka, the reason, and the remedy."""
    skips = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    reasons = [skip.partition(_NEEDED)[2] for skip in skips if _NEEDED in skip]
    if reasons:
        reason = max(reasons, key=len).rstrip("')")
        terminalreporter.line(f"{len(reasons)} tests skipped, no Kafka: {reason}", yellow=True)


def _found(find: Callable[[], _T], *, remedy: str) -> _T:
    try:
        return find()
    except KafkaBrokerError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except KafkaUnavailableError as error:
        reason = f"{_NEEDED}{error}; {remedy}"
        if os.environ.get("CI", "").lower() in {"", "0", "false"}:
            raise pytest.skip.Exception(reason) from None
        raise pytest.fail.Exception(reason, pytrace=False) from None

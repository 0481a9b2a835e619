"""The pytest fixtures: real Kafka, three nodes of it, and the embedded broker.

Imported by every pytest run where the package is installed, so nothing here may import a Kafka
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

    It does not create topics by itself, and new ones get one partition. Where no broker can be
    had the test is skipped, or fails if the environment says ``CI=true``.
    """
    with _found(find_kafka, remedy=_ANY_SOURCE) as running:
        yield running


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """Where Kafka's jars are: a test that asks for this may start a `KafkaCluster` of its own.

    Without Java and Maven it is skipped, or fails if the environment says ``CI=true``.
    """
    return _found(find_java, remedy=_CLUSTER_SOURCE).jars


@pytest.fixture(scope="module")
def _three_nodes(kafka_jars: Path) -> Iterator[KafkaCluster]:
    with KafkaCluster(3) as cluster:
        yield cluster


@pytest.fixture
def kafka_cluster(_three_nodes: KafkaCluster) -> KafkaCluster:
    """Three brokers, each of which can be killed, frozen and restarted; all run when a test begins.

    One cluster serves a module: topics and groups of earlier tests are still there.
    """
    _three_nodes.heal()
    return _three_nodes


@pytest_asyncio.fixture
async def kafkaesk_app(kafka: Kafka) -> AsyncIterator[Application]:
    """An application on real Kafka with a topic prefix of its own and no installed plugins.

    It is not started; what the test leaves running is stopped.
    """
    app = new_application(kafka.servers)
    yield app
    await app.finalize()


@pytest_asyncio.fixture
async def embedded_app() -> AsyncIterator[Application]:
    """An application on ``embedded://``, with a broker of its own and no installed plugins.

    It is not started; what the test leaves running is stopped. Topics appear on first use.
    """
    app = new_application(["embedded://"])
    yield app
    await app.finalize()


@pytest.fixture
def embedded_kafka() -> Iterator[EmbeddedBroker]:
    """A broker inside this process, fresh for each test; its limits are in the README.

    It is for any Kafka client. For an application of kafkaesk ask for ``embedded_app``.
    """
    with EmbeddedBroker() as broker:
        yield broker


def new_application(servers: Sequence[str]) -> Application:
    """Make an application whose topics nobody else uses; few partitions, quick rebalances."""
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
    """Mark what uses a real broker, before ``-m`` selects."""
    if _REAL.intersection(getattr(item, "fixturenames", ())):
        item.add_marker("kafka")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the brokers' logs if a test fails that uses them, and say where they are."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {}).values()
        for cluster in {value for value in used if isinstance(value, KafkaCluster)}:
            cluster.keep_logs = True
            report.sections.append(("Kafka's logs", str(cluster.directory)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line how many tests had no Kafka, why, and how to have them."""
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

"""SDKs, applications and layers, which end with their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.structs import RecordMetadata, TopicPartition
from opentelemetry.sdk.trace.sampling import Sampler

from kafkaesk_core import IncomingMessage
from kafkaesk_core.delivery import BatchResult
from tests.plugins.otel.layers import Layers, incoming
from tests.plugins.otel.recorder import Recorder
from tests.plugins.otel.traced import Trace, Traced

# Any in this file: an application's arguments are of any type.


@pytest.fixture
def sdk() -> Iterator[Recorder]:
    """An SDK of its own for this test; the global one stays unset."""
    recorder = Recorder()
    yield recorder
    recorder.shutdown()


@pytest.fixture
def sdk_with() -> Iterator[Callable[[Sampler], Recorder]]:
    """Make an SDK with a sampler."""
    made: list[Recorder] = []

    def make(sampler: Sampler) -> Recorder:
        made.append(Recorder(sampler))
        return made[-1]

    yield make
    for recorder in made:
        recorder.shutdown()


@pytest_asyncio.fixture
async def trace_app() -> AsyncIterator[Trace]:
    """Make an application with these plugins; it is stopped in the end."""
    made: list[Traced] = []

    def make(*plugins: object, topics: str = "in,out", **arguments: Any) -> Traced:
        made.append(Traced(plugins, topics, **arguments))
        return made[-1]

    yield make
    for traced in made:
        await traced.stop()


@pytest.fixture
def layers() -> type[Layers]:
    """Chains of plugins without a broker."""
    return Layers


@pytest.fixture
def make_message() -> Callable[..., IncomingMessage]:
    """Consumed records of the topic "in"."""
    return incoming


@pytest.fixture
def acknowledged() -> BatchResult:
    """What becomes of a message that the broker wrote to out[3] at offset 7."""
    partition = TopicPartition("out", 3)
    outcome = BatchResult(partition)
    outcome.acknowledge(RecordMetadata("out", 3, partition, 7, 0, 0, 0), 1)
    return outcome

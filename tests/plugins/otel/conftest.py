"""SDKs, applications and layers, which end with their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace.sampling import Sampler

from kafkaesk_core import Delivery, Subscription
from kafkaesk_testing.fakes import FakeApplication, HookRunner, delivery
from tests.plugins.otel.recorder import Recorder
from tests.plugins.otel.traced import Trace, Traced

# Any in this file: an application's arguments are of any type.

RECORD: dict[str, Any] = {"key": b"k", "value": b'{"schema":"Note:1","data":{}}'}
Call = Callable[[Any], Awaitable[Any]]


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


async def handler(data: bytes) -> None: ...


class Layers(HookRunner):
    """Chains of plugins without a broker; records come from "in", messages go to "out"."""

    def __init__(self, *plugins: object) -> None:
        subscription = Subscription("layers", handler, "group", pattern="*")
        app = FakeApplication(servers=("broker-1:9092",))
        super().__init__(*plugins, app=app, subscription=subscription)

    async def consume(self, handler: Call, message: Any = None, **fields: Any) -> Any:
        return await super().consume(handler, message, **{"stream": "in", **RECORD, **fields})

    async def publish(self, result: Any, message: Any = None, **fields: Any) -> Delivery:
        return await super().publish(result, message, **{"stream": "out", **fields})


@pytest.fixture
def layers() -> type[Layers]:
    return Layers


@pytest.fixture
def acknowledged() -> Delivery:
    """What becomes of a message that the broker wrote to out[3] at offset 7."""
    return delivery(topic="out", partition=3, offset=7)

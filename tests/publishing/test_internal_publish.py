"""What plugins publish on their own account, on the embedded broker."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import RecordMetadata
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    Delivery,
    InvalidMessageError,
    NotRunningError,
    OutgoingMessage,
    SchemaConflictError,
    UnknownSchemaError,
    hookimpl,
)
from kafkaesk_testing import EmbeddedBroker

ENVELOPE = b'{"schema":"Note:1","data":{"text":"a"}}'


class Watching:
    """Notes what layers and observers see."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Delivery:
        self.seen.append(f"layer {message.stream}")
        delivery: Delivery = await call_next(message)
        return delivery

    @hookimpl
    def published(self, message: OutgoingMessage, metadata: RecordMetadata | None) -> None:
        self.seen.append(f"observer {message.stream}")


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def app(embedded_kafka: EmbeddedBroker, watching: Watching) -> Application:
    for topic in ("notes", "others"):
        embedded_kafka.create_topic(topic, partitions=1)
    app = Application(
        embedded_kafka.servers,
        kafka_settings=dict(EmbeddedBroker.consumer_settings),
        create_topics=False,
        entry_points=False,
        plugins=[watching],
    )

    @app.schema("Note", version=1)
    class Note(BaseModel):
        text: str

    @app.schema("Other", version=1, streams=["others"])
    class Other(BaseModel):
        text: str

    return app


async def test_no_plugin_sees_it_but_the_broker_has_it(
    app: Application, watching: Watching
) -> None:
    got: list[tuple[Any, ...]] = []

    @app.subscribe("notes", "readers")
    async def read(data: bytes, record: Any) -> None:
        got.append((data, record.key, record.headers, record.timestamp))

    async with app:
        delivery = await app.publish_internal(
            "notes", ENVELOPE, schema="Note:1", key=b"k", headers=[("h", b"v")], timestamp_ms=7
        )
        metadata = await delivery
        await app.raw_publish("notes", b"{}")
        await app.consume_for(2, seconds=20)

    assert metadata.offset == 0
    assert got[0] == (ENVELOPE, b"k", (("h", b"v"),), 7)
    assert watching.seen == ["layer notes", "observer notes"]


async def test_it_starts_nothing(app: Application) -> None:
    with pytest.raises(NotRunningError, match="notes"):
        await app.publish_internal("notes", ENVELOPE, schema="Note:1")

    assert app.loop is None
    async with app:
        assert app.loop is not None
    assert app.loop is None


async def test_it_keeps_the_rule_of_one_schema_for_a_topic(app: Application) -> None:
    async with app:
        with pytest.raises(UnknownSchemaError, match="Unknown:1"):
            await app.publish_internal("notes", ENVELOPE, schema="Unknown:1")
        with pytest.raises(SchemaConflictError, match="others"):
            await app.publish_internal("others", ENVELOPE, schema="Note:1")


async def test_it_takes_no_key_and_no_header_that_cannot_be_sent(app: Application) -> None:
    wrong: list[dict[str, Any]] = [{"key": "text"}, {"headers": [("h", "text")]}]
    async with app:
        for arguments in wrong:
            with pytest.raises((TypeError, InvalidMessageError), match="not bytes"):
                await app.publish_internal("notes", ENVELOPE, schema="Note:1", **arguments)

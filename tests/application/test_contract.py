"""The public contract, row by row (S1 to S17), on real Apache Kafka."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Optional

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord, TopicPartition
from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import (
    Application,
    BatchFailure,
    ConfigurationError,
    DecodeError,
    HandlerError,
    InvalidMessageError,
    Retry,
    SchemaConflictError,
    Skip,
    SubscriptionError,
    UnknownSchemaError,
)
from kafkaesk_testing import eventually


class Content(BaseModel):
    foo: str


class Second(BaseModel):
    foo: str
    bar: int = 0


async def committed(app: Application, group: str, stream: str) -> dict[int, int]:
    """What the group has stored, as a plain client sees it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=list(app.settings.kafka_servers))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    topic = app.settings.topic_prefix + stream
    return {tp.partition: stored.offset for tp, stored in offsets.items() if tp.topic == topic}


async def read_all(app: Application, stream: str, count: int) -> list[ConsumerRecord]:
    """Read a stream with a plain client."""
    consumer = AIOKafkaConsumer(
        app.settings.topic_prefix + stream,
        bootstrap_servers=list(app.settings.kafka_servers),
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        return [await asyncio.wait_for(consumer.getone(), 10) for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.mark.s1
async def test_topics_of_known_streams_are_created_at_start_with_their_retention(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.schema("Content", version=1, retention=24 * 60 * 60, streams=["known"])(Content)

    async with kafkaesk_app:
        topic = kafkaesk_app.settings.topic_prefix + "known"
        admin = AIOKafkaAdminClient(bootstrap_servers=list(kafkaesk_app.settings.kafka_servers))
        await admin.start()
        (described,) = await admin.describe_topics([topic])
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": None})
        (answer,) = await admin.describe_configs([resource])
        await admin.close()

    assert len(described["partitions"]) == kafkaesk_app.settings.partitions
    assert answer.resources[0][4][0][1] == "86400000"


@pytest.mark.s2
async def test_publish_returns_a_delivery_and_publish_and_wait_the_metadata(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.schema("Content")(Content)

    async with kafkaesk_app:
        delivery = await kafkaesk_app.publish("s2", data=Content(foo="bar"), key=b"k")
        first = await delivery
        second = await kafkaesk_app.publish_and_wait("s2", Content(foo="baz"), b"k")
        raw = await kafkaesk_app.raw_publish("s2", b"anything", b"k", [("h", b"1")])
        await kafkaesk_app.flush()

    assert (first.partition, first.offset + 1) == (second.partition, second.offset)
    assert raw.done()
    assert raw.offset == second.offset + 1


@pytest.mark.s2
async def test_publishing_outside_of_the_application_starts_it(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.schema("Content")(Content)

    deliveries = await asyncio.gather(
        *(kafkaesk_app.publish("s2", Content(foo=str(n))) for n in range(3))
    )

    assert all([await delivery for delivery in deliveries])
    await kafkaesk_app.finalize()


@pytest.mark.s3
async def test_json_schema_documents_are_registered_and_validated_against(
    kafkaesk_app: Application,
) -> None:
    document = {
        "type": "object",
        "properties": {"foo": {"type": "string"}},
        "required": ["foo"],
    }
    kafkaesk_app.schema("Content", version=1, streams=["s3"])(document)

    async with kafkaesk_app:
        await kafkaesk_app.publish_and_wait("s3", data={"foo": "bar"}, schema="Content:1")
        await kafkaesk_app.publish_and_wait("s3", data={"foo": "by the topic's schema"})
        with pytest.raises(InvalidMessageError, match="Content:1"):
            await kafkaesk_app.publish("s3", data={"foo": 1}, schema="Content:1")
    records = await read_all(kafkaesk_app, "s3", 2)

    assert all(json.loads(record.value)["schema"] == "Content:1" for record in records)


@pytest.mark.s4
@pytest.mark.parametrize(
    ("pattern", "taken"), [("s4.*", {"s4.a", "s4.bb"}), ("s4.?", {"s4.a"}), ("s4.[ab]", {"s4.a"})]
)
async def test_a_stream_is_a_pattern_over_stream_names(
    kafkaesk_app: Application, pattern: str, taken: set[str]
) -> None:
    kafkaesk_app.schema("Content", streams=["s4.a", "s4.bb", "other"])(Content)
    seen: set[str] = set()

    @kafkaesk_app.subscribe(pattern, "s4")
    async def handle(data: Content, record: ConsumerRecord) -> None:
        seen.add(record.topic.removeprefix(kafkaesk_app.settings.topic_prefix))

    async with kafkaesk_app:
        for stream in ("s4.a", "s4.bb", "other"):
            await kafkaesk_app.publish(stream, Content(foo=stream))
        await kafkaesk_app.consume_for(len(taken), seconds=20)

    assert seen == taken


@pytest.mark.s4
async def test_subscribe_to_topics_takes_names_and_no_patterns(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.schema("Content")(Content)
    seen: list[str] = []

    @kafkaesk_app.subscribe_to_topics(["s4", "s4-two"], "names")
    async def by_name(data: Content) -> None:
        seen.append(data.foo)

    @kafkaesk_app.subscribe_to_pattern("s4-th*", "patterns")
    async def by_pattern(data: Content) -> None:
        seen.append(data.foo)

    async with kafkaesk_app:
        for stream in ("s4", "s4-two", "s4-three"):
            await kafkaesk_app.publish(stream, Content(foo=stream))
        await kafkaesk_app.consume_for(3, seconds=20)

    assert sorted(seen) == ["s4", "s4-three", "s4-two"]


@pytest.mark.s4
@pytest.mark.u41
async def test_a_prefix_may_hold_any_character_of_a_topic(kafka: Any) -> None:
    app = Application(kafka.servers, topic_prefix="s4.pre-fix_", entry_points=False)
    app.schema("Content")(Content)
    seen: list[str] = []

    @app.subscribe("x.*")
    async def prefixed(data: Content, record: ConsumerRecord) -> None:
        seen.append(record.topic)

    async with app:
        await app.publish("x.y", Content(foo="1"))
        await app.consume_for(1, seconds=20)

    assert seen == ["s4.pre-fix_x.y"]


@pytest.mark.s5
async def test_the_group_is_by_default_the_functions_name(kafkaesk_app: Application) -> None:
    kafkaesk_app.schema("Content")(Content)

    @kafkaesk_app.subscribe("s5")
    async def the_name_of_the_function(data: Content) -> None: ...

    assert kafkaesk_app.subscriptions[0].group == "the_name_of_the_function"


@pytest.mark.s6
async def test_subscriber_publishes_on_behalf_of_its_message(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.schema("Content")(Content)
    origins: list[str] = []

    @kafkaesk_app.hook
    async def wrap_publish(message: Any, call_next: Any) -> Any:
        if message.origin is not None:
            origins.append(message.origin.stream)
        return await call_next(message)

    @kafkaesk_app.subscribe("s6.in", "s6")
    async def copy(data: Content, subscriber: Any) -> None:
        await subscriber.publish("s6.out", data=Content(foo=data.foo + "!"))

    async with kafkaesk_app:
        await kafkaesk_app.publish("s6.in", Content(foo="bar"))
        await kafkaesk_app.consume_for(1, seconds=20)
    (record,) = await read_all(kafkaesk_app, "s6.out", 1)

    assert json.loads(record.value) == {"schema": "Content:1", "data": {"foo": "bar!"}}
    assert origins == ["s6.in"]


async def test_what_the_caller_tells_plugins_is_in_the_messages_meta(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.schema("Content")(Content)
    told = {"channel": "mail"}
    seen: list[dict[str, Any]] = []

    @kafkaesk_app.hook
    async def wrap_publish(message: Any, call_next: Any) -> Any:
        seen.append(dict(message.meta))
        message.meta["changed"] = True
        return await call_next(message)

    async with kafkaesk_app:
        await kafkaesk_app.publish("meta.a", Content(foo="1"), meta=told)
        await kafkaesk_app.publish_and_wait("meta.a", Content(foo="2"), meta=told)
        await kafkaesk_app.raw_publish("meta.b", b"3", meta=told)
        await kafkaesk_app.publish("meta.a", Content(foo="4"))

    assert seen == [told, told, told, {}]
    assert told == {"channel": "mail"}


async def test_the_application_tells_which_brokers_it_asked(kafkaesk_app: Application) -> None:
    before = kafkaesk_app.servers

    async with kafkaesk_app:
        during = kafkaesk_app.servers

    assert (tuple(before), tuple(kafkaesk_app.servers)) == ((), ())
    assert tuple(during) == kafkaesk_app.settings.kafka_servers


@pytest.mark.s7
@pytest.mark.u36
async def test_routers_are_merged_and_conflicts_are_errors(kafkaesk_app: Application) -> None:
    """Mount replaced event handlers and schemas."""
    calls: list[str] = []
    router = kafkaesk_core.Router()
    router.schema("Content", version=1)(Content)

    @router.subscribe("s7", "s7")
    async def handle(data: Content) -> None:
        calls.append(data.foo)

    async def from_router() -> None:
        calls.append("router")

    async def from_app() -> None:
        calls.append("app")

    kafkaesk_app.on("initialize", from_app)
    router.on("initialize", from_router)
    kafkaesk_app.mount(router)

    async with kafkaesk_app:
        await kafkaesk_app.publish("s7", Content(foo="data"))
        await kafkaesk_app.consume_for(1, seconds=20)

    assert calls == ["app", "router", "data"]
    conflicting = kafkaesk_core.Router()

    class Other(BaseModel):
        bar: int

    conflicting.schema("Content", version=1)(Other)
    with pytest.raises(SchemaConflictError, match="Content:1"):
        kafkaesk_app.mount(conflicting)


@pytest.mark.s8
async def test_parameters_are_injected_by_name(kafkaesk_app: Application) -> None:
    kafkaesk_app.schema("Content", version=2)(Content)
    got: dict[str, Any] = {}

    @kafkaesk_app.subscribe("s8", "s8")
    async def handle(
        data: Content, schema: str, record: ConsumerRecord, app: Any, subscriber: Any
    ) -> None:
        got.update(schema=schema, record=record, app=app, subscriber=subscriber)

    async with kafkaesk_app:
        await kafkaesk_app.publish("s8", Content(foo="bar"))
        await kafkaesk_app.consume_for(1, seconds=20)

    assert got["schema"] == "Content:2"
    assert isinstance(got["record"], ConsumerRecord)
    assert got["app"] is kafkaesk_app
    assert callable(got["subscriber"].publish)


@pytest.mark.s8
async def test_a_parameter_that_nothing_fills_stops_the_start(
    kafkaesk_app: Application,
) -> None:
    @kafkaesk_app.subscribe("s8", "s8")
    async def handle(data: Content, tracer: Any) -> None: ...

    with pytest.raises(SubscriptionError, match=r"handle.*'tracer'.*record, schema, subscriber"):
        await kafkaesk_app.initialize()


@pytest.mark.s8
async def test_a_plugin_claims_a_parameter_by_its_annotation(
    kafkaesk_app: Application,
) -> None:
    class Span:
        pass

    span = Span()
    got: list[Span] = []

    class Tracing:
        @kafkaesk_core.hookimpl
        def bind_parameter(self, parameter: Any, subscription: Any) -> Any:
            return (lambda message: span) if parameter.annotation is Span else None

    kafkaesk_app.plugins.register(Tracing())
    kafkaesk_app.schema("Content")(Content)

    async def handle(data: Content, span: Any) -> None:
        got.append(span)

    handle.__annotations__["span"] = Span
    kafkaesk_app.subscribe("s8", "s8")(handle)

    async with kafkaesk_app:
        await kafkaesk_app.publish("s8", Content(foo="bar"))
        await kafkaesk_app.consume_for(1, seconds=20)

    assert got == [span]


async def _given(app: Application, handler: Any) -> None:
    app.schema("Content")(Content)
    app.subscribe("s9", "s9")(handler)
    async with app:
        await app.publish("s9", Content(foo="bar"))
        await app.consume_for(1, seconds=20)


@pytest.mark.s9
async def test_a_model_receives_the_validated_data(kafkaesk_app: Application) -> None:
    got: list[Content] = []

    async def handle(data: Content) -> None:
        got.append(data)

    await _given(kafkaesk_app, handle)

    assert got == [Content(foo="bar")]


@pytest.mark.s9
@pytest.mark.u5
@pytest.mark.u44
async def test_an_optional_and_a_quoted_annotation_are_understood(
    kafkaesk_app: Application,
) -> None:
    got: list[Any] = []

    async def handle(data: "Optional[Content]", app: "Any" = None) -> None:  # noqa: UP037, UP045
        got.append(data)

    await _given(kafkaesk_app, handle)

    assert got == [Content(foo="bar")]


@pytest.mark.s9
async def test_bytes_receives_the_raw_value(kafkaesk_app: Application) -> None:
    got: list[bytes] = []

    async def handle(data: bytes) -> None:
        got.append(data)

    await _given(kafkaesk_app, handle)

    assert json.loads(got[0]) == {"schema": "Content:1", "data": {"foo": "bar"}}


@pytest.mark.s9
async def test_consumer_record_receives_the_record(kafkaesk_app: Application) -> None:
    got: list[ConsumerRecord] = []

    async def handle(record: ConsumerRecord) -> None:
        got.append(record)

    await _given(kafkaesk_app, handle)

    assert got[0].topic.endswith("s9")


@pytest.mark.s9
async def test_no_annotation_receives_the_decoded_message(kafkaesk_app: Application) -> None:
    got: list[Any] = []

    async def handle(data) -> None:  # type: ignore[no-untyped-def]  # that is the case tested
        got.append(data)

    await _given(kafkaesk_app, handle)

    assert got == [{"schema": "Content:1", "data": {"foo": "bar"}}]


async def _given_batches(app: Application, handler: Any, count: int = 10) -> None:
    app.configure(partitions=1)
    app.schema("Content")(Content)
    app.subscribe("s9", "s9", batch_size=4, batch_timeout=0.2)(handler)
    async with app:
        for n in range(count):
            await app.publish("s9", Content(foo=str(n)))
        await app.flush()
        await app.consume_for(count, seconds=20)
        assert await committed(app, "s9", "s9") == {0: count}


@pytest.mark.s9
async def test_a_list_of_models_receives_batches(kafkaesk_app: Application) -> None:
    got: list[list[str]] = []

    async def handle(data: list[Content]) -> None:
        got.append([content.foo for content in data])

    await _given_batches(kafkaesk_app, handle)

    assert [foo for batch in got for foo in batch] == [str(n) for n in range(10)]
    assert [len(batch) for batch in got] == [4, 4, 2]


@pytest.mark.s9
async def test_a_list_of_bytes_receives_raw_values(kafkaesk_app: Application) -> None:
    got: list[bytes] = []

    async def handle(data: list[bytes]) -> None:
        got.extend(data)

    await _given_batches(kafkaesk_app, handle, count=3)

    assert [json.loads(value)["data"]["foo"] for value in got] == ["0", "1", "2"]


@pytest.mark.s9
async def test_a_list_of_records_receives_records(kafkaesk_app: Application) -> None:
    got: list[ConsumerRecord] = []

    async def handle(data: list[ConsumerRecord]) -> None:
        got.extend(data)

    await _given_batches(kafkaesk_app, handle, count=3)

    assert [record.offset for record in got] == [0, 1, 2]


@pytest.mark.s9
async def test_a_batch_failure_leaves_the_others_done(kafkaesk_app: Application) -> None:
    """One message of four is tried three times, the others once."""
    attempts: list[list[str]] = []
    layers: list[list[int]] = []

    async def handle(data: list[Content]) -> None:
        attempts.append([content.foo for content in data])
        failed = [n for n, content in enumerate(data) if content.foo == "1"]
        if failed and len(attempts) < 3:
            raise BatchFailure({n: Retry("not yet", delay=0.1) for n in failed})

    @kafkaesk_app.hook
    async def wrap_consume_batch(messages: Any, call_next: Any) -> Any:
        layers.append([message.attempt for message in messages])
        return await call_next(messages)

    await _given_batches(kafkaesk_app, handle, count=4)

    assert attempts == [["0", "1", "2", "3"], ["1"], ["1"]]
    assert layers == [[1, 1, 1, 1], [2], [3]]


@pytest.mark.s9
async def test_a_batch_handler_publishes_and_commits_for_its_batch(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(auto_commit=False, partitions=1)
    kafkaesk_app.schema("Content")(Content)
    origins: list[int] = []

    @kafkaesk_app.hook
    async def wrap_publish(message: Any, call_next: Any) -> Any:
        origins.append(len(message.origins))
        return await call_next(message)

    @kafkaesk_app.subscribe("s9", "s9", batch_size=3, batch_timeout=5)
    async def handle(data: list[Content], subscriber: Any) -> None:
        await subscriber.publish("s9.out", Content(foo="sum"))
        await subscriber.consumer.commit()

    async with kafkaesk_app:
        for n in range(3):
            await kafkaesk_app.publish("s9", Content(foo=str(n)))
        await kafkaesk_app.consume_for(3, seconds=20)
        assert await committed(kafkaesk_app, "s9", "s9") == {0: 3}

    assert origins == [0, 0, 0, 3]


@pytest.mark.s10
async def test_manual_commit_stores_what_the_handler_commits_and_nothing_else(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(auto_commit=False, partitions=1)
    kafkaesk_app.schema("Content")(Content)

    @kafkaesk_app.subscribe("s10", "s10")
    async def handle(data: Content, subscriber: Any) -> None:
        if data.foo == "1":
            await subscriber.consumer.commit()

    async with kafkaesk_app:
        for n in range(4):
            await kafkaesk_app.publish("s10", Content(foo=str(n)))
        assert await kafkaesk_app.consume_for(4, seconds=20) == 4

    assert await committed(kafkaesk_app, "s10", "s10") == {0: 2}


@pytest.mark.s11
@pytest.mark.u40
@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"isolation_levl": "x"}, "did you mean 'isolation_level'"),
        ({"session_timeout_ms": "10"}, "session_timeout_ms.*'10'.*int"),
        ({"sasl_mechanism": "PLAIN"}, "security_protocol is PLAINTEXT"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "sasl_plain_username"),
        ({"session_timeout_ms": 6000}, "heartbeat_interval_ms 3000.*6000"),
        ({"rebalance_timeout_ms": 20000}, "drain_timeout.*rebalance_timeout_ms 20s"),
        ({"acks": 1}, "acks=1.*enable_idempotence"),
        ({"group_id": "x"}, "group"),
    ],
)
def test_wrong_kafka_settings_are_errors_that_name_values_and_remedy(
    wrong: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigurationError, match=match):
        check_settings(Application(["localhost:9092"], kafka_settings=wrong))


def check_settings(app: Application) -> None:
    app.settings.check()
    app.settings.check_handover()


@pytest.mark.s11
def test_secrets_are_never_shown() -> None:
    app = Application(
        ["localhost:9092"],
        kafka_settings={
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_plain_username": "alice",
            "sasl_plain_password": "wonderland",
        },
    )

    assert "wonderland" not in repr(app.settings)
    assert "wonderland" not in str(app.settings.shown())
    assert "wonderland" not in repr(app.settings.client)


@pytest.mark.s11
async def test_kafka_settings_reach_both_clients_whole(kafkaesk_app: Application) -> None:
    kafkaesk_app.configure(
        kafka_settings={
            **kafkaesk_app.settings.kafka_settings,
            "compression_type": "gzip",
            "isolation_level": "read_committed",
            "client_id": "s11",
        }
    )

    client = kafkaesk_app.settings.client

    assert client.for_producer()["compression_type"] == "gzip"
    assert client.for_consumer()["isolation_level"] == "read_committed"
    assert client.for_admin()["client_id"] == "s11"
    assert "isolation_level" not in client.for_producer()


@pytest.mark.s12
async def test_what_is_published_satisfies_its_schema(kafkaesk_app: Application) -> None:
    kafkaesk_app.schema("Content")(Content)

    class Unregistered(BaseModel):
        foo: str

    mutated = Content(foo="bar")
    mutated.foo = 5  # type: ignore[assignment]  # that is the case tested
    async with kafkaesk_app:
        with pytest.raises(InvalidMessageError, match=r"Content:1.*foo"):
            await kafkaesk_app.publish("s12", mutated)
        with pytest.raises(InvalidMessageError, match=r"Content:1.*foo"):
            await kafkaesk_app.publish("s12", Content.model_construct(**{}))
        with pytest.raises(UnknownSchemaError, match="Unregistered"):
            await kafkaesk_app.publish("s12", Unregistered(foo="bar"))
        with pytest.raises(UnknownSchemaError, match="Content:7"):
            await kafkaesk_app.publish("s12", {"foo": "x"}, schema="Content:7")


@pytest.mark.s12
async def test_a_topic_carries_one_schema_in_any_version(kafkaesk_app: Application) -> None:
    class Other(BaseModel):
        foo: str

    kafkaesk_app.schema("Content", version=1)(Content)
    kafkaesk_app.schema("Content", version=2)(Second)
    kafkaesk_app.schema("Other")(Other)
    got: list[BaseModel] = []

    @kafkaesk_app.subscribe("s12", "s12")
    async def handle(data: Second) -> None:
        got.append(data)

    async with kafkaesk_app:
        await kafkaesk_app.publish_and_wait("s12", Content(foo="one"), b"k")
        await kafkaesk_app.publish_and_wait("s12", Second(foo="two", bar=2), b"k")
        with pytest.raises(SchemaConflictError, match=r"s12.*Content.*Other"):
            await kafkaesk_app.publish("s12", Other(foo="x"))
        await kafkaesk_app.consume_for(2, seconds=20)

    assert got == [Second(foo="one", bar=0), Second(foo="two", bar=2)]


@pytest.mark.s12
async def test_trusted_instances_are_not_validated_again(kafkaesk_app: Application) -> None:
    kafkaesk_app.configure(validate_published=False)
    kafkaesk_app.schema("Content")(Content)
    mutated = Content(foo="bar")
    mutated.foo = "anything"

    async with kafkaesk_app:
        await kafkaesk_app.publish_and_wait("s12", mutated)


@pytest.mark.s13
async def test_the_message_on_the_wire_is_a_json_envelope(kafkaesk_app: Application) -> None:
    kafkaesk_app.schema("Content", version=3)(Content)

    async with kafkaesk_app:
        await kafkaesk_app.publish_and_wait("s13", Content(foo="bär"))
    (record,) = await read_all(kafkaesk_app, "s13", 1)

    assert record.value.decode() == '{"schema":"Content:3","data":{"foo":"bär"}}'


@pytest.mark.s16
async def test_lifecycle_events_are_called_in_order(kafkaesk_app: Application) -> None:
    calls: list[str] = []

    async def initialized() -> None:
        await kafkaesk_app.publish_and_wait("s16", Content(foo="from initialize"))
        calls.append("initialize")

    async def finalized() -> None:
        await kafkaesk_app.publish("s16", Content(foo="from finalize"))
        calls.append("finalize")

    kafkaesk_app.schema("Content")(Content)
    kafkaesk_app.on("initialize", initialized)
    kafkaesk_app.on("finalize", finalized)

    async with kafkaesk_app:
        assert calls == ["initialize"]
    records = await read_all(kafkaesk_app, "s16", 2)

    assert calls == ["initialize", "finalize"]
    assert {json.loads(r.value)["data"]["foo"] for r in records} == {
        "from initialize",
        "from finalize",
    }


@pytest.mark.s16
@pytest.mark.u10
async def test_consume_forever_ends_with_stop_and_commits(kafkaesk_app: Application) -> None:
    """A clean stop leaves nothing to be handled again."""
    kafkaesk_app.configure(partitions=1)
    kafkaesk_app.schema("Content")(Content)
    handled: list[str] = []

    @kafkaesk_app.subscribe("s16", "s16")
    async def handle(data: Content) -> None:
        handled.append(data.foo)

    async with kafkaesk_app:
        for n in range(10):
            await kafkaesk_app.publish("s16", Content(foo=str(n)))
        running = asyncio.create_task(kafkaesk_app.consume_forever())
        await eventually(lambda: len(handled) == 10)
        await kafkaesk_app.health_check()
        await asyncio.gather(kafkaesk_app.stop(), kafkaesk_app.stop())
        await running

    assert await committed(kafkaesk_app, "s16", "s16") == {0: 10}


@pytest.mark.s16
@pytest.mark.d5
@pytest.mark.u1
@pytest.mark.u3
async def test_a_failing_handler_stops_the_application_and_names_the_record(
    kafkaesk_app: Application,
) -> None:
    """What failed is not committed, what was done before is."""
    kafkaesk_app.configure(partitions=1)
    kafkaesk_app.schema("Content")(Content)

    @kafkaesk_app.subscribe("s16", "s16")
    async def handle(data: Content) -> None:
        if data.foo == "2":
            raise ValueError("no")

    async with kafkaesk_app:
        for n in range(5):
            await kafkaesk_app.publish("s16", Content(foo=str(n)))
        with pytest.raises(HandlerError) as failed:
            await kafkaesk_app.consume_for(5, seconds=20)

    error = failed.value
    assert (error.partition, error.offset, error.group) == (0, 2, "s16")
    assert error.schema == "Content:1"
    assert isinstance(error.__cause__, ValueError)
    assert await committed(kafkaesk_app, "s16", "s16") == {0: 2}


@pytest.mark.s16
@pytest.mark.u4
@pytest.mark.u21
@pytest.mark.parametrize("poison", [b"no json", b"{}", b'{"schema":"Content:1","data":{}}', None])
async def test_poison_is_a_failure_like_any_other(
    kafkaesk_app: Application, poison: bytes | None
) -> None:
    kafkaesk_app.schema("Content")(Content)

    @kafkaesk_app.subscribe("s16", "s16")
    async def handle(data: Content) -> None: ...

    async with kafkaesk_app:
        await (await kafkaesk_app.raw_publish("s16", poison, b"key"))
        with pytest.raises(HandlerError) as failed:
            await kafkaesk_app.consume_for(1, seconds=20)

    assert isinstance(failed.value.__cause__, DecodeError | InvalidMessageError)


@pytest.mark.s16
async def test_poison_is_skipped_where_the_subscription_says_so(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(partitions=1)
    kafkaesk_app.schema("Content")(Content)
    got: list[str] = []

    def decide(error: BaseException, message: Any) -> kafkaesk_core.Disposition:
        return Skip("poison") if isinstance(error, DecodeError) else kafkaesk_core.Stop()

    @kafkaesk_app.subscribe("s16", "s16", on_error=decide)
    async def handle(data: Content) -> None:
        got.append(data.foo)

    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("s16", b"no json")
        await kafkaesk_app.publish("s16", Content(foo="good"))
        assert await kafkaesk_app.consume_for(2, seconds=20) == 2

    assert got == ["good"]
    assert await committed(kafkaesk_app, "s16", "s16") == {0: 2}


@pytest.mark.s16
async def test_a_retried_message_is_handled_again_in_its_place(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(partitions=1)
    kafkaesk_app.schema("Content")(Content)
    got: list[str] = []

    @kafkaesk_app.subscribe("s16", "s16")
    async def handle(data: Content) -> None:
        got.append(data.foo)
        if got.count("0") < 3:
            raise kafkaesk_core.Retry(delay=0.01)

    async with kafkaesk_app:
        await kafkaesk_app.publish("s16", Content(foo="0"))
        await kafkaesk_app.publish("s16", Content(foo="1"))
        await kafkaesk_app.consume_for(2, seconds=20)

    assert got == ["0", "0", "0", "1"]
    assert await committed(kafkaesk_app, "s16", "s16") == {0: 2}


@pytest.mark.s16
@pytest.mark.rule_30
@pytest.mark.u18
@pytest.mark.u20
async def test_timeout_seconds_is_a_failure_and_a_swallowed_cancellation_is_done(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(partitions=1)
    kafkaesk_app.schema("Content")(Content)
    timeouts: list[BaseException] = []

    def note(error: BaseException, message: Any) -> kafkaesk_core.Disposition:
        timeouts.append(error)
        return Skip("slow")

    @kafkaesk_app.subscribe("s16", "s16", timeout_seconds=0.05, on_error=note)
    async def handle(data: Content) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if data.foo == "raises":
                raise

    async with kafkaesk_app:
        await kafkaesk_app.publish("s16", Content(foo="raises"))
        await kafkaesk_app.publish("s16", Content(foo="swallows"))
        await kafkaesk_app.consume_for(2, seconds=20)

    assert [type(error) for error in timeouts] == [kafkaesk_core.HandlerTimeoutError]
    assert await committed(kafkaesk_app, "s16", "s16") == {0: 2}


@pytest.mark.s16
@pytest.mark.rule_15
async def test_concurrency_runs_so_many_handlers_at_once(kafkaesk_app: Application) -> None:
    """Of one partition, in any order."""
    kafkaesk_app.configure(partitions=1)
    kafkaesk_app.schema("Content")(Content)
    running = most = 0

    @kafkaesk_app.subscribe("s16", "s16", concurrency=4, ordering="unordered")
    async def handle(data: Content) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    async with kafkaesk_app:
        for n in range(20):
            await kafkaesk_app.publish("s16", Content(foo=str(n)))
        await kafkaesk_app.consume_for(20, seconds=20)

    assert most == 4
    assert await committed(kafkaesk_app, "s16", "s16") == {0: 20}


@pytest.mark.u29
async def test_two_handlers_of_one_group_on_one_stream_are_refused(
    kafkaesk_app: Application,
) -> None:
    async def one(data: bytes) -> None: ...

    async def two(data: bytes) -> None: ...

    kafkaesk_app.subscribe_to_topics(["u29"], "group")(one)
    kafkaesk_app.subscribe_to_topics(["u29"], "group")(two)

    with pytest.raises(SubscriptionError, match=r"u29.*one.*two.*group"):
        await kafkaesk_app.initialize()


async def test_partition_assignment_is_told_to_observers(kafkaesk_app: Application) -> None:
    events: list[tuple[str, int]] = []
    kafkaesk_app.configure(partitions=2)
    kafkaesk_app.schema("Content", streams=["observed"])(Content)

    @kafkaesk_app.hook
    def partitions_assigned(event: Any) -> None:
        events.append((event.kind, len(event.partitions)))

    @kafkaesk_app.subscribe("observed", "observed")
    async def handle(data: Content) -> None: ...

    async with kafkaesk_app:
        await kafkaesk_app.publish("observed", Content(foo="x"))
        await kafkaesk_app.consume_for(1, seconds=20)

    assert events[-1] == ("assigned", 2)
    assert TopicPartition("a", 0) == ("a", 0)

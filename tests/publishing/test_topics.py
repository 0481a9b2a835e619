"""Topics against a scripted admin client: names, creation, what is asked and how often."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import aiokafka.errors as kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaesk_core import topics as topic_module
from kafkaesk_core.errors import (
    AuthorizationError,
    BrokerUnreachableError,
    NotRunningError,
    SchemaConflictError,
    TopicError,
)
from kafkaesk_core.kafka.admin import CreateResult, TopicState
from kafkaesk_core.schema.registry import SchemaRegistration
from kafkaesk_core.topics import Topics
from kafkaesk_testing import eventually

MISSING = TopicState(3, (), ())
Answer = Exception | TopicState | CreateResult | int | None


def state(partitions: int, led: int | None = None) -> TopicState:
    return TopicState(0, range(partitions), range(partitions if led is None else led))


class FakeAdmin:
    """Keeps topics in a dict; answers that were put into `script` come first."""

    def __init__(self, brokers: int = 3) -> None:
        self.brokers = brokers
        self.topics: dict[str, tuple[int, int, dict[str, str]]] = {}
        self.calls: list[str] = []
        self.script: dict[str, deque[Answer]] = {
            name: deque() for name in ("create", "describe", "configs", "count")
        }
        self.gate = asyncio.Event()
        self.gate.set()

    async def _next(self, name: str) -> Any:
        self.calls.append(name)
        await self.gate.wait()
        await asyncio.sleep(0)
        answer = self.script[name].popleft() if self.script[name] else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def create_topic(
        self,
        name: str,
        partitions: int,
        replication_factor: int,
        configs: Mapping[str, str] | None = None,
        *,
        timeout: float,
    ) -> CreateResult:
        answer = await self._next("create")
        if isinstance(answer, CreateResult):
            return answer
        if name in self.topics:
            return CreateResult(36, "exists")
        self.topics[name] = (partitions, replication_factor, dict(configs or {}))
        return CreateResult(0, "")

    async def describe_topic(self, topic: str, *, timeout: float) -> TopicState:
        answer = await self._next("describe")
        if isinstance(answer, TopicState):
            return answer
        return state(self.topics[topic][0]) if topic in self.topics else MISSING

    async def describe_topic_configs(
        self, topic: str, names: Sequence[str], *, timeout: float
    ) -> Mapping[str, str | None]:
        await self._next("configs")
        configs = {
            "retention.ms": "604800000",
            "max.message.bytes": "1048588",
            "cleanup.policy": "delete",
            **self.topics[topic][2],
        }
        return {name: configs[name] for name in names}

    async def cluster_id(self, *, timeout: float) -> str:
        return "a real one"

    async def broker_count(self, *, timeout: float) -> int:
        await self._next("count")
        return self.brokers


def topics_of(admin: Any, **options: Any) -> Topics:
    return Topics("prod.", admin, **{"timeout": 2.0, **options})


ORDER = SchemaRegistration("Order", document={}, retention=60)


# --- names (rule 41)


@pytest.mark.rule_41
@given(prefix=st.text(), stream=st.text(min_size=1))
def test_the_mapping_of_streams_is_reversible_whatever_the_prefix(prefix: str, stream: str) -> None:
    topics = Topics(prefix, None)

    topic = topics.topic_of(stream)

    assert topic == prefix + stream
    assert topics.stream_of(topic) == stream


@pytest.mark.parametrize("topic", ["orders", "Prod.orders", "prod-orders", "prod", "prod.", ""])
def test_a_topic_without_the_prefix_is_no_stream_of_ours(topic: str) -> None:
    assert Topics("prod.", None).stream_of(topic) is None


@pytest.mark.rule_41
def test_a_prefix_is_taken_off_once() -> None:
    topics = Topics("a[*].", None)

    assert topics.stream_of("a[*].a[*].orders") == "a[*].orders"


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "x" * 250, "a\n"])
async def test_a_name_that_kafka_would_refuse_is_refused_before_anything_is_asked(
    name: str,
) -> None:
    admin = FakeAdmin()

    with pytest.raises(TopicError, match="Kafka allows 1 to 249") as caught:
        await topics_of(admin).ensure(name, None)

    assert (caught.value.code, admin.calls) == (17, [])


async def test_a_name_is_checked_also_where_topics_make_themselves() -> None:
    with pytest.raises(TopicError):
        await Topics("", None, create_on_use=True).ensure("a b", None)


# --- one schema for each topic (S12)


def test_a_topic_carries_one_schema_in_any_version() -> None:
    topics = topics_of(None)

    topics.claim("prod.orders", "Order")
    topics.claim("prod.orders", "Order")
    topics.claim("prod.old-orders", "Order")

    assert topics.schema_of("prod.orders") == "Order"
    assert topics.schema_of("prod.other") is None


def test_a_second_schema_for_a_topic_is_a_conflict_that_names_both() -> None:
    topics = topics_of(None)
    topics.claim("prod.orders", "Order")

    with pytest.raises(
        SchemaConflictError, match=r"prod.orders carries .*'Order'.*'Bill'"
    ) as caught:
        topics.claim("prod.orders", "Bill")

    assert (caught.value.topic, caught.value.schema) == ("prod.orders", "Bill")
    assert topics.schema_of("prod.orders") == "Order"


# --- ensuring (rule 40)


async def test_a_missing_topic_is_created_as_its_schema_asks() -> None:
    admin = FakeAdmin()
    schema = SchemaRegistration(
        "Order", document={}, retention=60, partitions=5, replication_factor=2
    )

    await topics_of(admin).ensure("prod.orders", schema)

    assert admin.topics == {"prod.orders": (5, 2, {"retention.ms": "60000"})}


@pytest.mark.parametrize(("brokers", "factor"), [(1, 1), (2, 2), (3, 3), (9, 3)])
async def test_replicas_default_to_one_for_each_broker_and_three_at_most(
    brokers: int, factor: int
) -> None:
    admin = FakeAdmin(brokers)

    await topics_of(admin).ensure("prod.orders", None)

    assert admin.topics == {"prod.orders": (7, factor, {})}


async def test_the_settings_hold_where_the_schema_says_nothing() -> None:
    admin = FakeAdmin()

    await topics_of(admin, partitions=4, replication_factor=1).ensure("prod.orders", ORDER)

    assert admin.topics == {"prod.orders": (4, 1, {"retention.ms": "60000"})}
    assert "count" not in admin.calls


async def test_an_existing_topic_is_looked_up_once_and_remembered_until_invalidated() -> None:
    admin = FakeAdmin()
    admin.topics["prod.orders"] = (7, 3, {})
    topics = topics_of(admin)

    await topics.ensure("prod.orders")
    await topics.ensure("prod.orders")
    assert admin.calls == ["describe", "configs"]
    topics.invalidate("prod.orders")
    await topics.ensure("prod.orders")

    assert admin.calls == ["describe", "configs"] * 2


@pytest.mark.f34
async def test_concurrent_calls_share_one_creation() -> None:
    admin = FakeAdmin()
    topics = topics_of(admin)
    created: list[str] = []
    topics.on_created.append(created.append)

    await asyncio.gather(*(topics.ensure("prod.orders", ORDER) for _ in range(20)))

    assert admin.calls.count("create") == 1
    assert created == ["prod.orders"]


async def test_different_topics_are_ensured_at_the_same_time() -> None:
    admin = FakeAdmin()
    admin.gate.clear()
    topics = topics_of(admin)

    work = asyncio.gather(*(topics.ensure(f"prod.{n}") for n in range(3)))
    await eventually(lambda: len(admin.calls) == 3)
    admin.gate.set()
    await work

    assert admin.calls[:3] == ["describe"] * 3


async def test_a_topic_that_another_process_created_meanwhile_is_a_success() -> None:
    admin = FakeAdmin()
    admin.script["create"].append(CreateResult(36, "exists"))
    admin.script["describe"].extend([MISSING, MISSING, state(7)])
    admin.topics["prod.orders"] = (7, 3, {"retention.ms": "60000"})
    topics = topics_of(admin)
    created: list[str] = []
    topics.on_created.append(created.append)

    await topics.ensure("prod.orders", ORDER)

    assert created == []


@pytest.mark.parametrize("code", [41, 7, 5])
async def test_a_busy_cluster_is_asked_again(code: int) -> None:
    admin = FakeAdmin()
    admin.script["create"].extend([CreateResult(code, "busy"), kafka.KafkaConnectionError("cut")])
    admin.script["describe"].extend([kafka.NodeNotReadyError("not yet"), TopicState(code, (), ())])

    await topics_of(admin).ensure("prod.orders")

    assert admin.calls.count("create") == 3
    assert "prod.orders" in admin.topics


@pytest.mark.f35
@pytest.mark.parametrize("code", [37, 38, 39, 40, 44, 17, 42])
async def test_a_refused_topic_is_an_error_in_kafkas_own_words(code: int) -> None:
    admin = FakeAdmin()
    admin.script["create"].append(CreateResult(code, "Kafka says no."))

    with pytest.raises(
        TopicError, match=r"creating topic prod.orders failed: Kafka says no"
    ) as caught:
        await topics_of(admin).ensure("prod.orders")

    assert (caught.value.topic, caught.value.code) == ("prod.orders", code)
    assert admin.calls.count("create") == 1


async def test_a_forbidden_creation_is_an_authorization_error() -> None:
    admin = FakeAdmin()
    admin.script["create"].append(CreateResult(29, "Authorization failed."))

    with pytest.raises(AuthorizationError, match="Authorization failed"):
        await topics_of(admin).ensure("prod.orders")


async def test_a_topic_that_may_not_be_seen_is_an_authorization_error() -> None:
    admin = FakeAdmin()
    admin.script["describe"].append(TopicState(29, (), ()))

    with pytest.raises(AuthorizationError, match="not authorized to describe"):
        await topics_of(admin).ensure("prod.orders")

    assert "create" not in admin.calls


async def test_a_failed_ensure_fails_all_who_wait_and_the_next_one_tries_again() -> None:
    admin = FakeAdmin()
    admin.script["create"].append(CreateResult(38, "too few"))
    topics = topics_of(admin)

    failures = await asyncio.gather(
        *(topics.ensure("prod.orders") for _ in range(3)), return_exceptions=True
    )
    await topics.ensure("prod.orders")

    assert [type(failure) for failure in failures] == [TopicError] * 3
    assert len({id(failure) for failure in failures}) == 3
    assert "prod.orders" in admin.topics


async def test_no_answer_within_the_timeout_says_what_the_last_one_was() -> None:
    admin = FakeAdmin()
    admin.script["describe"].extend([kafka.NodeNotReadyError("all down")] * 100)

    with pytest.raises(BrokerUnreachableError, match=r"not ready in time.*all down"):
        await topics_of(admin, timeout=0.2).ensure("prod.orders")


async def test_a_topic_that_takes_long_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(topic_module, "_LONGEST_PAUSE_SECONDS", 0.1)
    admin = FakeAdmin()
    admin.script["describe"].extend([kafka.NodeNotReadyError("all down")] * 5)

    await topics_of(admin).ensure("prod.orders")

    (line,) = [r.getMessage() for r in caplog.records if "not ready" in r.getMessage()]
    assert "prod.orders" in line
    assert "all down" in line
    assert "retrying for another 2 seconds" in line


async def test_an_unexpected_error_is_translated() -> None:
    admin = FakeAdmin()
    admin.script["describe"].append(kafka.UnsupportedVersionError("too old"))

    with pytest.raises(Exception, match=r"asking for prod\.orders failed: Unsupported"):
        await topics_of(admin).ensure("prod.orders")


async def test_a_new_topic_is_ready_when_all_partitions_have_leaders() -> None:
    admin = FakeAdmin()
    admin.script["describe"].extend([MISSING, MISSING, state(0), state(7, led=3), state(7)])

    await topics_of(admin).ensure("prod.orders")

    assert admin.calls.count("describe") == 5


async def test_a_missing_topic_that_may_not_be_created_is_an_error_with_the_remedy() -> None:
    admin = FakeAdmin()

    with pytest.raises(TopicError, match="create it, or allow it with create_topics=True"):
        await topics_of(admin, create=False).ensure("prod.orders")

    assert admin.calls == ["describe"]


async def test_nothing_is_asked_where_topics_make_themselves() -> None:
    admin = FakeAdmin()

    await topics_of(admin, create_on_use=True).ensure("prod.orders", ORDER)

    assert admin.calls == []


async def test_a_different_topic_is_told_in_one_warning_and_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin = FakeAdmin()
    admin.topics["prod.orders"] = (3, 1, {})
    topics = topics_of(admin)

    with caplog.at_level(logging.WARNING, "kafkaesk.topics"):
        await topics.ensure("prod.orders", ORDER)
        topics.invalidate("prod.orders")
        await topics.ensure("prod.orders", ORDER)

    assert [record.getMessage() for record in caplog.records] == [
        "topic prod.orders exists with 3 partitions instead of 7 and "
        "retention.ms 604800000 instead of 60000; it is left unchanged"
    ]
    assert admin.topics["prod.orders"] == (3, 1, {})


async def test_a_topic_as_asked_for_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    admin = FakeAdmin()
    admin.topics["prod.orders"] = (7, 3, {"retention.ms": "60000"})
    admin.topics["prod.raw"] = (1, 3, {})

    with caplog.at_level(logging.WARNING):
        await topics_of(admin).ensure("prod.orders", ORDER)
        await topics_of(admin).ensure("prod.raw", None)

    assert caplog.records == []


async def test_facts_of_a_topic_are_kept() -> None:
    admin = FakeAdmin()
    admin.topics["prod.orders"] = (
        2,
        3,
        {"max.message.bytes": "500", "cleanup.policy": "compact,delete"},
    )
    topics = topics_of(admin)

    await topics.ensure("prod.orders")
    facts = topics.facts("prod.orders")

    assert facts is not None
    assert (facts.partitions, facts.max_message_bytes, facts.is_compacted) == (2, 500, True)
    assert topics.facts("prod.other") is None


async def test_settings_that_may_not_be_asked_for_do_not_matter() -> None:
    admin = FakeAdmin()
    admin.topics["prod.orders"] = (7, 3, {})
    admin.script["configs"].append(kafka.IncompatibleBrokerVersion("no such request"))
    topics = topics_of(admin)

    await topics.ensure("prod.orders", ORDER)

    facts = topics.facts("prod.orders")
    assert facts is not None
    assert (facts.retention_ms, facts.max_message_bytes) == (None, None)


async def test_a_failing_callback_does_not_fail_the_creation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    topics = topics_of(FakeAdmin())
    created: list[str] = []

    def fail(_: str) -> None:
        raise RuntimeError("a consumer's mistake")

    topics.on_created.extend([fail, created.append])
    await topics.ensure("prod.orders")

    assert created == ["prod.orders"]
    assert "a callback on the creation of topic prod.orders failed" in caplog.text


async def test_one_who_is_cancelled_leaves_the_others_their_answer() -> None:
    admin = FakeAdmin()
    admin.gate.clear()
    topics = topics_of(admin)

    first = asyncio.create_task(topics.ensure("prod.orders"))
    second = asyncio.create_task(topics.ensure("prod.orders"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    admin.gate.set()
    await second

    assert first.cancelled()
    assert "prod.orders" in admin.topics


async def test_closing_ends_what_is_under_way() -> None:
    admin = FakeAdmin()
    admin.gate.clear()
    topics = topics_of(admin)

    waiting = asyncio.create_task(topics.ensure("prod.orders"))
    await eventually(lambda: admin.calls == ["describe"])
    await topics.stop()

    with pytest.raises(NotRunningError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}

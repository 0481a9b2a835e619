"""`Cluster` and `kafkaesk lag`: what they say of a real cluster, and that they change nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.structs import OffsetAndMetadata
from click.testing import CliRunner, Result

from kafkaesk_core import (
    BrokerUnreachableError,
    Cluster,
    CommittedOffset,
    ConfigurationError,
    NotRunningError,
    Settings,
    TopicError,
    TopicPartition,
)
from kafkaesk_core.cli import cli
from kafkaesk_testing import Kafka, eventually
from kafkaesk_testing.kafka_install import KAFKA_VERSION, cache_directory, find_java

TOOLS = cache_directory() / "tools"
FETCH = [
    *("mvn", "-q", "-B", "dependency:copy"),
    f"-Dartifact=org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    f"-DoutputDirectory={TOOLS}",
]


class Shop(NamedTuple):
    """A topic of three partitions, and a group that has committed in one of them."""

    servers: str
    topic: str
    group: str
    is_behind: TopicPartition
    """Three records and the marker of their transaction; one of them is committed."""
    is_new: TopicPartition
    """Two records; nothing is committed, but a member has it."""
    is_empty: TopicPartition


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(kafka: Kafka) -> AsyncIterator[Shop]:
    topic = f"cluster-{uuid.uuid4().hex[:12]}"
    behind, new, empty = (TopicPartition(topic, number) for number in range(3))
    servers = kafka.servers
    async with AsyncExitStack() as stack:
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        stack.push_async_callback(admin.close)
        await admin.create_topics(
            [NewTopic(topic, 3, 1, topic_configs={"retention.ms": "12345678"})]
        )
        producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=topic)
        async with producer, producer.transaction():
            for time in (1000, 2000, 3000):
                await producer.send_and_wait(topic, b"one", partition=0, timestamp_ms=time)
        async with AIOKafkaProducer(bootstrap_servers=servers) as plain:
            for time in (2500, 9000):
                await plain.send_and_wait(topic, b"two", partition=1, timestamp_ms=time)
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=servers,
            group_id=f"{topic}-readers",
            client_id="reader-7",
            enable_auto_commit=False,
        )
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        await eventually(lambda: len(consumer.assignment()) == 3)
        await consumer.commit({behind: OffsetAndMetadata(1, "a note")})
        yield Shop(",".join(servers), topic, f"{topic}-readers", behind, new, empty)


def cluster_of(servers: str) -> Cluster:
    return Cluster(Settings(kafka_servers=servers), timeout=20)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cluster_tells_topics_and_their_settings(shop: Shop) -> None:
    async with cluster_of(shop.servers) as cluster:
        topics = {topic.name: topic for topic in await cluster.topics()}
        counts = await cluster.partitions([shop.topic, "there.is.none"])
        configs = await cluster.configs(shop.topic)

    assert list(topics) == sorted(topics)
    assert (topics[shop.topic].partitions, topics[shop.topic].replication_factor) == (3, 1)
    assert topics["__consumer_offsets"].is_internal
    assert counts == {shop.topic: 3}
    assert configs["retention.ms"] == "12345678"
    assert len(configs) > 20


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cluster_tells_offsets_also_by_time(shop: Shop) -> None:
    topic, behind, new, empty = shop.topic, shop.is_behind, shop.is_new, shop.is_empty

    async with cluster_of(shop.servers) as cluster:
        begins, ends = await cluster.begins([topic]), await cluster.ends([topic])
        by_time = {
            time: await cluster.offsets_at([topic], time) for time in (0, 2000, 5000, 10**13)
        }
        none = await cluster.ends(["there.is.none"]), await cluster.ends([])

    assert begins == {behind: 0, new: 0, empty: 0}
    assert ends == {behind: 4, new: 2, empty: 0}
    assert by_time[0] == begins
    assert by_time[2000] == {behind: 1, new: 0, empty: 0}
    assert by_time[5000] == {behind: 3, new: 1, empty: 0}  # the marker is of now
    assert by_time[10**13] == ends
    assert none == ({}, {})


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cluster_tells_the_groups_their_members_and_offsets(shop: Shop) -> None:
    async with cluster_of(shop.servers) as cluster:
        names = await cluster.groups()
        group = await cluster.group(shop.group)
        committed = await cluster.committed(shop.group)
        unknown = await cluster.group("there.is.none"), await cluster.lag("there.is.none")

    assert shop.group in names
    assert (group.state, group.exists) == ("Stable", True)
    (member,) = group.members
    assert (member.client_id, member.host) == ("reader-7", "127.0.0.1")
    assert member.partitions == (shop.is_behind, shop.is_new, shop.is_empty)
    assert committed == {shop.is_behind: CommittedOffset(1, "a note")}
    assert (unknown[0].exists, unknown[0].members, unknown[1]) == (False, (), ())


@pytest.mark.asyncio(loop_scope="module")
async def test_a_lag_that_is_not_known_is_not_zero(shop: Shop) -> None:
    async with cluster_of(shop.servers) as cluster:
        found = await cluster.lag(shop.group)

    lags = {each.partition: (each.committed, each.end, each.lag) for each in found}
    assert lags == {0: (1, 4, 3), 1: (None, 2, None), 2: (None, 0, None)}
    assert {each.member.client_id for each in found if each.member} == {"reader-7"}


@pytest_asyncio.fixture(loop_scope="module")
async def auditors(shop: Shop) -> str:
    """A group that stands at the first of the gaps that compaction and an abort have made."""
    topic = f"{shop.topic}-compacted"
    partition, servers = TopicPartition(topic, 0), shop.servers.split(",")
    configs = {
        "cleanup.policy": "compact",
        "segment.ms": "1",
        "min.cleanable.dirty.ratio": "0.0",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "1",
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers) as plain:
        now = time.time_ns() // 1_000_000
        for age in range(9, 0, -2):  # seconds: each record in a segment of its own
            await plain.send_and_wait(topic, b"1", b"key", 0, now - age * 1000)
    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id=topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"2", b"key", 0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"3", b"key", 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=f"{topic}-auditors", enable_auto_commit=False
    )
    async with consumer:
        consumer.assign([partition])
        await consumer.commit({partition: 1})

        async def is_compacted() -> bool:
            consumer.seek(partition, 0)
            records = await consumer.getmany(timeout_ms=2000)
            return bool(records[partition][0].offset > 1)

        await eventually(is_compacted, within=60)
    return f"{topic}-auditors"


@pytest.fixture
def tools() -> Path:
    """Kafka's own tools, which Maven fetches once per user, as the test kit does the broker."""
    if not any(TOOLS.glob("kafka-tools-*.jar")):
        if shutil.which("mvn") is None:
            pytest.skip("Kafka's own tools are not there, and mvn is not on PATH")
        subprocess.run(FETCH, check=True, timeout=120)
    return TOOLS


@pytest.mark.asyncio(loop_scope="module")
async def test_the_lag_is_that_of_kafkas_own_tool(
    shop: Shop, auditors: str, kafka_jars: object, tools: Path
) -> None:
    """Also behind markers of transactions, an aborted one, and records that are compacted away."""
    java = find_java()
    tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    command = java.command(tool, "--bootstrap-server", shop.servers, "--describe", "--group")
    place = command.index("-cp") + 1
    command[place] += f":{tools}/*"
    printed = await asyncio.to_thread(
        subprocess.run,
        [*command, shop.group, "--group", auditors],
        capture_output=True,
        text=True,
        timeout=60,
    )

    async with cluster_of(shop.servers) as cluster:
        found = [*await cluster.lag(shop.group), *await cluster.lag(auditors)]

    rows = [line.split() for line in printed.stdout.splitlines() if line.strip()]
    head = ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"]
    assert head in [row[:6] for row in rows]
    theirs = sorted(tuple(row[1:6]) for row in rows if row[0] in (shop.group, auditors))
    assert (found[-1].committed, found[-1].end) == (1, 9)  # seven records and two markers
    numbers = ((each.committed, each.end, each.lag) for each in found)
    shown = (tuple("-" if number is None else str(number) for number in row) for row in numbers)
    ours = sorted((e.topic, str(e.partition), *row) for e, row in zip(found, shown, strict=True))
    assert theirs == ours


@pytest.mark.asyncio(loop_scope="module")
async def test_a_reader_yields_records_by_their_time_and_follows_partitions_that_are_added(
    shop: Shop,
) -> None:
    topic, servers = f"{shop.topic}-read", shop.servers.split(",")
    async with AsyncExitStack() as stack:
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        stack.push_async_callback(admin.close)
        await admin.create_topics([NewTopic(topic, 2, 1)])
        producer = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=servers))
        for number in range(6):
            await producer.send_and_wait(topic, b"%d" % number, None, number % 2, number)
        cluster = await stack.enter_async_context(cluster_of(shop.servers))
        reader = await stack.enter_async_context(cluster.reader())

        ends = await cluster.ends([topic])
        await producer.send_and_wait(topic, b"later", None, 0, 0)
        read = [one.value async for batch in reader.records(ends) for one in batch]
        begins = {TopicPartition(topic, 0): 2}
        rest = [one.value async for batch in reader.records(ends, begins) for one in batch]
        following = await stack.enter_async_context(aclosing(reader.follow(ends)))
        followed = [one.value for one in await anext(following)]
        await admin.create_partitions({topic: NewPartitions(3)})
        adding = asyncio.create_task(_publish_to_new_partition(servers, topic))
        added = [(one.partition, one.value) for one in await anext(following)]
        await adding

    assert read == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert rest == [b"1", b"3", b"4", b"5"]
    assert followed == [b"later"]
    assert added == [(2, b"new")]


async def _publish_to_new_partition(servers: list[str], topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, metadata_max_age_ms=200) as producer:

        async def is_known() -> bool:
            return len(await producer.partitions_for(topic)) == 3

        await eventually(is_known)
        await producer.send_and_wait(topic, b"new", None, 2)


@pytest.mark.asyncio(loop_scope="module")
async def test_questions_create_no_topic(shop: Shop) -> None:
    missing = f"{shop.topic}-missing"

    async with cluster_of(shop.servers) as cluster:
        await cluster.ends([missing])
        await cluster.offsets_at([missing], 1)
        with pytest.raises(TopicError, match=f"topic {missing} does not exist"):
            await cluster.configs(missing)

        assert missing not in {topic.name for topic in await cluster.topics()}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cluster_is_open_only_inside_of_its_block(shop: Shop) -> None:
    cluster = cluster_of(shop.servers)
    with pytest.raises(NotRunningError, match="async with"):
        await cluster.groups()
    with pytest.raises(NotRunningError, match="async with"):
        await cluster.reader().__aenter__()

    async with cluster:
        assert await cluster.groups()
        with pytest.raises(ConfigurationError, match="since 1970"):
            await cluster.offsets_at([shop.topic], -2)

    with pytest.raises(NotRunningError, match="async with"):
        await cluster.groups()


# --- the command `kafkaesk lag`


async def invoke(*arguments: str) -> Result:
    """Run the command in a thread: it has an event loop of its own."""
    environment = {"COLUMNS": "160", "KAFKAESK_KAFKA_SERVERS": None}
    run = CliRunner(env=environment).invoke
    return await asyncio.to_thread(run, cli, ["lag", *arguments])


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_shows_a_row_for_each_partition(shop: Shop) -> None:
    result = await invoke("--group", shop.group, "--kafka-servers", shop.servers)

    assert result.exit_code == 0, result.output
    head, heading, _, *rows = [line for line in result.output.splitlines() if line.strip()]
    assert heading == shop.topic
    assert head == f"{shop.group}: Stable, 1 member, lag 3 in 1 partitions, not known in 2"
    client = ["reader-7", "127.0.0.1"]
    assert [row.split() for row in rows] == [
        ["0", "1", "4", "3", *client],
        ["1", "-", "2", "-", *client],
        ["2", "-", "0", "-", *client],
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_shows_the_groups_of_an_application_as_json(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"lagging{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(
        "import kafkaesk_core\n"
        f"app = kafkaesk_core.Application({shop.servers!r}, entry_points=False)\n"
        "async def handle(data: bytes) -> None: ...\n"
        f"for group in ({shop.group!r}, 'never.joined'):\n"
        "    app.subscribe('orders', group)(handle)\n"
    )

    result = await invoke(f"{name}:app", "--json")

    assert result.exit_code == 0, result.output
    known, unknown = json.loads(result.output)["groups"]
    assert (known["group"], known["state"], known["members"]) == (shop.group, "Stable", 1)
    assert (known["lag"], known["unknown"]) == (3, 2)
    assert [each["lag"] for each in known["partitions"]] == [3, None, None]
    assert (unknown["state"], unknown["lag"], unknown["partitions"]) == (None, None, [])


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_shows_it_anew_until_it_is_interrupted(shop: Shop) -> None:
    where = ("--group", shop.group, "--kafka-servers", shop.servers)
    command = (sys.executable, "-m", "kafkaesk_core", "lag", *where, "--watch", "--json")
    process = await asyncio.create_subprocess_exec(
        *command, "--interval", "0.1", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    looks = [json.loads(await process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGINT)

    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert [look["groups"][0]["lag"] for look in looks] == [3, 3, 3]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_refuses_what_it_cannot_show(shop: Shop) -> None:
    misspelt = await invoke("--group", shop.group[:-1], "--kafka-servers", shop.servers)
    nothing = await invoke("--kafka-servers", shop.servers)

    assert (misspelt.exit_code, nothing.exit_code) == (2, 2)
    assert f"did you mean '{shop.group}'?" in misspelt.output
    assert "name an application, or a group" in nothing.output


# --- without a cluster


async def test_a_cluster_that_is_away_is_given_up_in_time() -> None:
    cluster = Cluster(Settings(kafka_servers="127.0.0.1:1"), timeout=0.5)

    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:1"):
        await cluster.__aenter__()


async def test_a_broker_inside_of_a_process_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="inside the process of a service"):
        await Cluster(Settings(kafka_servers="embedded://")).__aenter__()


def test_importing_the_library_does_not_import_it() -> None:
    program = "import sys, kafkaesk_core; sys.exit('kafkaesk_core.cluster' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

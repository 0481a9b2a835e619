import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from kafkaesk_testing import KafkaBrokerError, KafkaCluster, Listener
from kafkaesk_testing.readiness import metadata

CRASHING_PARENT = """
import os, signal
from kafkaesk_testing import KafkaCluster
cluster = KafkaCluster()
cluster.start()
print(cluster.nodes[0].pid, cluster.directory, flush=True)
{end}
"""
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where clusters of this test have their files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


async def create_topic(servers: list[str], topic: str, replicas: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, replicas)])
        assert [error[1] for error in answer.topic_errors] == [0]
    finally:
        await admin.close()


async def test_more_listeners_properties_and_users_can_be_configured(kafka_jars: Path) -> None:
    properties = {
        "listener.name.login.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.login.scram-sha-256.sasl.jaas.config": SCRAM,
        "listener.name.login.scram-sha-512.sasl.jaas.config": SCRAM,
        "auto.create.topics.enable": "true",
    }
    listeners = [
        Listener("LOGIN", "SASL_PLAINTEXT"),
        Listener("PROXIED", advertised_ports=[7777]),
    ]
    cluster = KafkaCluster(
        properties=properties, listeners=listeners, scram_users={"alice": "alice-pw"}
    )
    await asyncio.to_thread(cluster.start)
    try:
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            async with AIOKafkaProducer(
                bootstrap_servers=cluster.servers_of("LOGIN"),
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism=mechanism,
                sasl_plain_username="alice",
                sasl_plain_password="alice-pw",
            ) as producer:
                sent = await producer.send_and_wait("created-on-use", b"x")
                assert sent.topic == "created-on-use"
        client = AIOKafkaClient(bootstrap_servers=cluster.servers_of("PROXIED"))
        await client.bootstrap()
        assert [broker.port for broker in client.cluster.brokers()] == [7777]
        await client.close()
    finally:
        await asyncio.to_thread(cluster.stop)


def test_a_refused_configuration_is_told_with_the_place_of_the_log(
    kafka_jars: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = KafkaCluster(properties={"num.partitions": "none"})

    with pytest.raises(KafkaBrokerError, match=r"num\.partitions") as error:
        cluster.start()

    log = cluster.directory / "n1" / "kafka.log"
    assert str(log) in str(error.value)
    assert log.exists()
    assert not (cluster.directory / "n1" / "data").exists()
    assert str(cluster.directory) in caplog.text


def test_an_error_inside_the_block_keeps_the_logs(kafka_jars: Path, kept: Path) -> None:
    cluster = KafkaCluster()

    with pytest.raises(ZeroDivisionError), cluster:
        _ = 1 / 0

    assert (cluster.directory / "n1" / "kafka.log").exists()
    assert not cluster.nodes[0].is_running


@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "raise SystemExit",
    ],
)
def test_no_broker_outlives_a_process_that_forgot_it(
    kafka_jars: Path,
    tmp_path: Path,
    end: str,
    wait_for: Callable[[Callable[[], bool]], None],
    exists: Callable[[int], bool],
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", CRASHING_PARENT.format(end=end)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    pid = int(done.stdout.split()[0])
    wait_for(lambda: not exists(pid))


async def test_three_nodes_go_on_when_one_is_killed_and_heal(kafka_cluster: KafkaCluster) -> None:
    await create_topic(kafka_cluster.servers, "orders", replicas=3)
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_cluster.servers, enable_idempotence=True
    ) as producer:
        await producer.send_and_wait("orders", b"before")

        await asyncio.to_thread(kafka_cluster.nodes[0].kill)

        await asyncio.wait_for(producer.send_and_wait("orders", b"after"), 20)

    await asyncio.to_thread(kafka_cluster.heal)
    for server in kafka_cluster.servers:
        known = await asyncio.to_thread(metadata, server)
        assert known.broker_ids == [1, 2, 3]
        assert known.out_of_sync == []


def test_all_three_run_again_when_the_next_test_begins(kafka_cluster: KafkaCluster) -> None:
    assert [node.is_running for node in kafka_cluster.nodes] == [True, True, True]

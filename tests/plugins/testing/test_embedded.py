from importlib.metadata import entry_points

import pytest
from aiokafka.client import AIOKafkaClient

from kafkaesk_core import Application, BrokerError, Cluster, Settings
from kafkaesk_core.errors import ConfigurationError
from kafkaesk_testing import EmbeddedBroker
from kafkaesk_testing.embedded import bootstrap


async def test_the_url_starts_a_broker_for_as_long_as_it_is_entered() -> None:
    async with bootstrap("embedded://", None) as broker:
        client = AIOKafkaClient(bootstrap_servers=list(broker.servers))
        await client.bootstrap()
        await client.close()

    assert len(broker.servers) == 1
    assert broker.can_create_topics is False
    with pytest.raises(Exception, match="Unable to bootstrap"):
        await client.bootstrap()


async def test_options_set_brokers_and_topics() -> None:
    url = "embedded://?brokers=3&topics=orders,audit&partitions=7"

    async with bootstrap(url, None) as broker:
        client = AIOKafkaClient(bootstrap_servers=list(broker.servers))
        await client.bootstrap()
        cluster = await client.fetch_all_metadata()
        await client.close()

    assert len(broker.servers) == 3
    assert cluster.topics() == {"orders", "audit"}
    assert len(cluster.partitions_for_topic("audit")) == 7


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("embedded://?broker=3", "unknown option 'broker'; known are brokers, partitions, topics"),
        ("embedded://?brokers=none", "brokers=none; it must be a number from 1 up"),
        ("embedded://?brokers=0", "brokers=0; it must be a number from 1 up"),
        ("embedded://?partitions=7", "sets partitions without topics"),
        ("embedded://localhost", "nor that of another process, embedded://HOST:PORT"),
        ("embedded://localhost:port", "nor that of another process"),
        ("embedded://localhost:9092/topic", "nor that of another process"),
        ("embedded://localhost:9092?brokers=3", "nor that of another process"),
    ],
)
async def test_a_wrong_url_is_refused_with_what_is_right(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await bootstrap(url, None).__aenter__()


async def test_an_application_uses_the_embedded_broker_of_another_one() -> None:
    handled: list[bytes] = []
    with EmbeddedBroker() as broker:
        app = Application(f"embedded://{broker.host_port}", entry_points=False)

        @app.subscribe("orders.placed", "billing")
        async def bill(order: bytes) -> None:
            handled.append(order)

        async with app:
            await app.raw_publish("orders.placed", b"1")
            await app.consume_for(1, seconds=20)
        async with Cluster(app.settings) as cluster:
            topics = await cluster.topics()

    assert handled == [b"1"]
    assert [topic.name for topic in topics] == ["orders.placed"]


async def test_what_the_embedded_broker_cannot_answer_is_an_error_with_the_remedy() -> None:
    with EmbeddedBroker() as broker:
        async with Cluster(Settings(kafka_servers=(f"embedded://{broker.host_port}",))) as cluster:
            with pytest.raises(
                BrokerError, match="as that of embedded:// does not; name a cluster"
            ):
                await cluster.group("billing")


def test_the_scheme_is_found_by_its_name() -> None:
    (found,) = entry_points(group="kafkaesk.bootstrap", name="embedded")

    assert found.load() is bootstrap

import pytest

from kafkaesk_testing import EmbeddedBroker, KafkaBrokerError
from kafkaesk_testing.properties import free_ports
from kafkaesk_testing.readiness import has_coordinator, metadata, wait_until_ready


def test_metadata_lists_the_brokers_that_are_up() -> None:
    with EmbeddedBroker(brokers=3) as broker:
        assert metadata(broker.servers[0]).broker_ids == [1, 2, 3]

        broker.set_down(2)

        assert metadata(broker.servers[0]).broker_ids == [1, 3]


def test_metadata_lists_partitions_without_a_leader() -> None:
    with EmbeddedBroker(topics={"orders": 3}) as broker:
        broker.set_leader("orders", 1, -1)

        assert metadata(broker.host_port).out_of_sync == [("orders", 1)]


def test_a_group_has_a_coordinator_or_has_not(embedded_kafka: EmbeddedBroker) -> None:
    assert has_coordinator(embedded_kafka.host_port)

    embedded_kafka.push_errors(10, 15)

    assert not has_coordinator(embedded_kafka.host_port)


def test_ready_waits_for_the_coordinator(embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.push_errors(10, 15, 15, 15)

    wait_until_ready(embedded_kafka.host_port, timeout=5)

    assert has_coordinator(embedded_kafka.host_port)


def test_ready_says_what_was_missing_when_it_gives_up(embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topic("orders", partitions=1)
    embedded_kafka.set_leader("orders", 0, -1)

    with pytest.raises(KafkaBrokerError, match=r"knows only the brokers \[1\]"):
        wait_until_ready(embedded_kafka.host_port, expected_ids=[1, 2], timeout=0.1)
    with pytest.raises(KafkaBrokerError, match=r"out of sync: \[\('orders', 0\)\]"):
        wait_until_ready(embedded_kafka.host_port, in_sync=True, timeout=0.1)
    with pytest.raises(KafkaBrokerError, match="does not answer"):
        wait_until_ready(f"127.0.0.1:{free_ports(1)[0]}", timeout=0.1)


def test_ready_gives_up_at_once_when_the_broker_has_ended() -> None:
    with pytest.raises(KafkaBrokerError, match="ended before it was ready"):
        wait_until_ready("127.0.0.1:1", timeout=60, is_alive=lambda: False)

from pathlib import Path

from kafkaesk_testing import Listener
from kafkaesk_testing.properties import server_properties, write_properties

THREE = {
    id_: {"PLAINTEXT": 20000 + id_, "CONTROLLER": 21000 + id_, "EXT": 22000 + id_}
    for id_ in (1, 2, 3)
}


def properties_of(node: int, *listeners: Listener, fast_failover: bool = True) -> dict[str, str]:
    return server_properties(
        node, ports=THREE, listeners=listeners, data=Path("data"), fast_failover=fast_failover
    )


def test_three_nodes_name_each_other_and_replicate() -> None:
    properties = properties_of(2, Listener("EXT"))

    assert properties["node.id"] == "2"
    assert properties["controller.quorum.voters"] == (
        "1@127.0.0.1:21001,2@127.0.0.1:21002,3@127.0.0.1:21003"
    )
    assert properties["default.replication.factor"] == "3"
    assert properties["min.insync.replicas"] == "2"


def test_one_node_asks_for_no_replicas() -> None:
    properties = server_properties(
        1, ports={1: THREE[1]}, listeners=(), data=Path("data"), fast_failover=True
    )

    assert properties["offsets.topic.replication.factor"] == "1"
    assert properties["min.insync.replicas"] == "1"


def test_no_record_is_deleted_for_its_timestamp() -> None:
    """Kafka deleted records that a test had dated back, whenever it came to look for them."""
    assert properties_of(1)["log.retention.ms"] == "-1"


def test_a_listener_advertises_its_own_port_unless_told_another() -> None:
    own = properties_of(2, Listener("EXT"))
    proxied = properties_of(2, Listener("EXT", advertised_ports=[7001, 7002, 7003]))

    assert own["advertised.listeners"].endswith("EXT://127.0.0.1:22002")
    assert proxied["advertised.listeners"].endswith("EXT://127.0.0.1:7002")
    assert proxied["listeners"].endswith("EXT://127.0.0.1:22002")


def test_a_listener_has_the_protocol_it_was_given() -> None:
    properties = properties_of(1, Listener("EXT", "SASL_SSL"))

    assert "EXT:SASL_SSL" in properties["listener.security.protocol.map"].split(",")


def test_kafkas_own_failover_times_stay_without_fast_failover() -> None:
    assert "broker.session.timeout.ms" in properties_of(1)
    assert "broker.session.timeout.ms" not in properties_of(1, fast_failover=False)


def test_values_that_java_would_unescape_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"

    write_properties(file, {"jaas": 'Login required password="a\\b";\nnext'})

    assert file.read_text() == 'jaas=Login required password="a\\\\b";\\nnext\n'

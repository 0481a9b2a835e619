import errno
import gc
import socket
import sys

import pytest

from kafkaesk_testing import KafkaCluster
from kafkaesk_testing.properties import ReservedPorts, free_ports


def test_ports_are_distinct_free_and_never_given_to_outgoing_connections() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert all(20000 <= port < 32768 for port in ports)
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_more_ports_than_there_are_is_an_error() -> None:
    with pytest.raises(OSError, match=r"free ports of 20000"):
        free_ports(20000)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a bound port be shared")
def test_a_reserved_port_is_listened_on_again_and_again_but_given_to_nobody_else() -> None:
    reserved = ReservedPorts(2)
    port, other = reserved.numbers

    for _ in range(2):  # a server that goes down, and comes back
        with socket.create_server(("127.0.0.1", port)):
            assert is_taken(port)
        assert is_taken(port)
    assert port != other

    reserved.release()
    assert not is_taken(port)
    reserved.release()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a bound port be shared")
def test_a_cluster_reserves_its_ports_from_the_beginning_to_its_stop() -> None:
    cluster, forgotten = KafkaCluster(3), KafkaCluster()
    ports = [node.port_of("CONTROLLER") for node in cluster.nodes]
    port = forgotten.nodes[0].port_of("PLAINTEXT")
    assert all(map(is_taken, [*ports, port]))

    cluster.stop()
    del forgotten
    gc.collect()

    assert not any(map(is_taken, [*ports, port]))


def is_taken(port: int) -> bool:
    """Whether somebody who looks for a free port passes over this one."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False

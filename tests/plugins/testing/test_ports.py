import socket

import pytest

from kafkaesk_testing.properties import free_ports


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

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kafkaesk_testing import KafkaBrokerError, KafkaCluster, KafkaNode
from kafkaesk_testing.readiness import has_coordinator, metadata


@pytest.fixture
def node(broker: KafkaCluster) -> KafkaNode:
    return broker.nodes[0]


def test_a_started_node_answers_and_serves_groups(node: KafkaNode) -> None:
    assert metadata(node.address).broker_ids == [1]
    assert has_coordinator(node.address)


def test_a_killed_node_is_gone_and_comes_back_on_the_same_port(
    node: KafkaNode, exists: Callable[[int], bool]
) -> None:
    pid, address = node.pid, node.address
    assert pid is not None

    node.kill()

    assert not exists(pid)
    assert not node.is_running
    assert node.pid is None
    node.restart()
    assert node.address == address
    assert node.pid not in (None, pid)
    assert metadata(address).broker_ids == [1]


def test_a_terminated_node_shuts_down_in_order_even_if_it_is_frozen(node: KafkaNode) -> None:
    before = node.log.read_text().count("kafka.server for 1 unregistered")
    node.freeze()

    node.terminate()

    assert not node.is_running
    assert not node.is_frozen
    assert node.log.read_text().count("kafka.server for 1 unregistered") > before


def test_a_frozen_node_does_not_answer_until_it_is_thawed(node: KafkaNode) -> None:
    node.freeze()

    assert node.is_frozen
    assert node.is_running
    assert state_of(node) == "T"
    node.thaw()
    assert not node.is_frozen
    assert state_of(node) != "T"
    assert has_coordinator(node.address)


def test_a_node_that_ended_by_itself_is_not_running_and_starts_again(
    node: KafkaNode, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    assert node.pid is not None
    os.kill(node.pid, signal.SIGTERM)
    wait_for(lambda: not node.is_running)

    node.start()

    assert metadata(node.address).broker_ids == [1]


def test_what_needs_a_process_says_so_when_there_is_none(node: KafkaNode) -> None:
    with pytest.raises(KafkaBrokerError, match="node 1 runs already"):
        node.start()

    node.terminate()

    with pytest.raises(KafkaBrokerError, match="node 1 does not run"):
        node.freeze()
    node.kill()
    node.terminate()


async def test_the_event_loop_runs_on_while_a_thread_waits_for_a_node(node: KafkaNode) -> None:
    loop = asyncio.get_running_loop()
    gaps, last = [], loop.time()

    restart = asyncio.create_task(asyncio.to_thread(node.restart))
    while not restart.done():
        await asyncio.wait([restart], timeout=0.01)
        gaps.append(loop.time() - last)
        last = loop.time()

    await restart
    assert len(gaps) > 20
    assert max(gaps) < 0.5


def state_of(node: KafkaNode) -> str:
    return Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()[0]

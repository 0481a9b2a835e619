"""The admin client where brokers do not answer as they should."""

from __future__ import annotations

import pytest
from aiokafka.errors import NodeNotReadyError

from kafkaesk_core.kafka.admin import Admin
from kafkaesk_testing import EmbeddedBroker


async def test_a_cluster_that_names_no_controller_is_told_after_asking_again() -> None:
    """The embedded broker is one, for who does not know that it is."""
    with EmbeddedBroker() as broker:
        admin = Admin([broker.host_port])
        await admin.start(5)
        try:
            with pytest.raises(NodeNotReadyError, match="has no controller"):
                await admin.create_topic("content", 1, 1, timeout=5)
        finally:
            await admin.close(1)

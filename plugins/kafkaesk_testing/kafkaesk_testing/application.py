"""An application for one test: no installed plugins, and topics of its own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from kafkaesk_core import Application

__all__ = ["new_application"]


def new_application(servers: Sequence[str]) -> Application:
    """Make an application whose topics nobody else uses; few partitions, quick rebalances."""
    return Application(
        servers,
        f"test-{uuid.uuid4().hex[:12]}.",
        {"heartbeat_interval_ms": 300, "metadata_max_age_ms": 1000},
        entry_points=False,
        partitions=3,
    )

"""Creates the topics that the command writes to, as an application does."""

from __future__ import annotations

from kafkaesk_core import Application, Settings

__all__ = ["creator"]

_TAKEN = (
    *("kafka_servers", "kafka_settings", "start_timeout"),
    *("create_topics", "partitions", "replication_factor"),
)


def creator(settings: Settings) -> Application:
    """Return an application without declarations; enter it to create topics.

    It retries while the cluster elects leaders, for `start_timeout` seconds.
    """
    app = Application(entry_points=False)
    app.override(**{name: getattr(settings, name) for name in _TAKEN})
    return app

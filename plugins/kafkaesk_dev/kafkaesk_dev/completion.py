"""The output of `kafkaesk completion`, and the completion of streams and schemas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import click
from click.shell_completion import get_completion_class

from kafkaesk_core import Cluster
from kafkaesk_core.command import cluster_settings, find_described

__all__ = ["complete_schema", "complete_stream", "completion_source"]

# Any below: values of options, as click parses them.

_SECONDS = 2.0
_WHERE = ("kafka_servers", "kafka_settings", "topic_prefix")


def completion_source(shell: str, command: click.Command) -> str:
    """Return the code for a shell."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"click completes nothing in {shell}")
    return found(command, {}, "kafkaesk", "_KAFKAESK_COMPLETE").source()


def complete_stream(params: Mapping[str, Any], incomplete: str) -> list[str]:
    """Complete a stream that the application names, or else a topic of the cluster."""

    def find() -> list[str]:
        if params.get("app"):
            described = find_described(params["app"]).describe()
            return [each["stream"] for each in described["streams"]]
        return asyncio.run(_topics({name: params.get(name) for name in _WHERE}))

    return _complete(find, incomplete)


async def _topics(options: Mapping[str, Any]) -> list[str]:
    settings = cluster_settings(None, options)
    prefix = settings.topic_prefix
    async with Cluster(settings, timeout=_SECONDS) as cluster:
        topics = await cluster.topics()
    named = (each.name for each in topics if not each.is_internal)
    return [name.removeprefix(prefix) for name in named if name.startswith(prefix)]


def complete_schema(params: Mapping[str, Any], incomplete: str) -> list[str]:
    """Complete a schema of the application."""
    app = params.get("app")
    return _complete(lambda: list(find_described(app).schemas) if app else [], incomplete)


def _complete(find: Callable[[], list[str]], incomplete: str) -> list[str]:
    logging.disable()  # nothing may come between the completions
    try:
        return sorted(name for name in find() if name.startswith(incomplete))
    except Exception:  # of the service, or no broker: a shell completes nothing then
        return []
    finally:
        logging.disable(logging.NOTSET)

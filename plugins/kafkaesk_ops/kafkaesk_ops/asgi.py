"""The endpoint for a service that already has a web server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry

from kafkaesk_core import Application

from .endpoint import Endpoint
from .metrics import Collector

__all__ = ["asgi"]

# Any below: ASGI's scopes and messages are dictionaries.
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def asgi(
    app: Application, registry: CollectorRegistry | None = None
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an ASGI application with `/live`, `/ready`, `/started`, `/status` and `/metrics`.

    Mount it under its own path. `/metrics` shows `registry`; the default registry has only the
    metrics of `app`.
    """
    if registry is None:
        registry = CollectorRegistry()
        Collector(registry).watch(app)
    endpoint = Endpoint(app, registry)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        path = path.removeprefix(scope.get("root_path", ""))
        answer = endpoint.answer(scope["method"], path)
        headers = [(b"content-type", answer.content_type.encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    return serve

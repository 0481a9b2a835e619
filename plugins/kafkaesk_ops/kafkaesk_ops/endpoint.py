"""The answer of each path, for the plugin's own server and for the ASGI application."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kafkaesk_core import Application, Health

__all__ = ["Answer", "Endpoint"]


class Answer(NamedTuple):
    """Status, content type and body of a response."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Endpoint:
    """Answers `/live`, `/ready`, `/started`, `/status` and `/metrics` of one application.

    A degraded application does not fail a probe; its problems are in the answer. The answer is 503
    only if the application should be restarted (`/live`), should get no work (`/ready`), or is
    still starting (`/started`).
    """

    def __init__(self, app: Application, registry: CollectorRegistry) -> None:
        self._app = app
        self._registry = registry
        self._paths: Mapping[str, Callable[[], Answer]] = {
            "/live": lambda: self._probe(app.health().is_live),
            "/ready": lambda: self._probe(app.health().is_ready),
            "/started": lambda: self._probe(app.status().state == "running"),
            "/status": self._status,
            "/metrics": self._metrics,
        }

    def answer(self, method: str, path: str) -> Answer:
        """Answer a request; queries are ignored."""
        found = self._paths.get(path.partition("?")[0])
        if found is None:
            known = ", ".join(self._paths)
            return _json(HTTPStatus.NOT_FOUND, {"error": f"no {path[:100]!r}; there is {known}"})
        if method not in ("GET", "HEAD"):
            error = {"error": f"{method[:20]} is not allowed; use GET"}
            return _json(HTTPStatus.METHOD_NOT_ALLOWED, error)
        return found()

    def _probe(self, holds: bool) -> Answer:
        health: Health = self._app.health()
        body = {
            "live": health.is_live,
            "ready": health.is_ready,
            "state": self._app.status().state,
            "reasons": list(health.reasons),
        }
        return _json(HTTPStatus.OK if holds else HTTPStatus.SERVICE_UNAVAILABLE, body)

    def _status(self) -> Answer:
        return _json(HTTPStatus.OK, self._app.status().as_dict())

    def _metrics(self) -> Answer:
        return Answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry))


def _json(status: HTTPStatus, body: Mapping[str, Any]) -> Answer:  # values of any JSON
    text = json.dumps(body, indent=2, default=str)
    return Answer(status, "application/json", f"{text}\n".encode())

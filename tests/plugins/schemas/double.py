"""A registry for tests that answers as the documentation of Confluent's API says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

CONTENT = "application/vnd.schemaregistry.v1+json"


class RegistryDouble:
    """Holds subjects; versions of a subject are compatible if no required property is added."""

    def __init__(self, credentials: str = "") -> None:
        self.subjects: dict[str, list[str]] = {}
        self.ids: dict[str, int] = {}
        self.requests: list[str] = []
        self.credentials = credentials
        self.failure: tuple[int, dict[str, Any]] | None = None
        self.url = ""

    def answer(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(path)
        if self.failure is not None:
            return self.failure
        if self.credentials and headers.get("Authorization") != self.credentials:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        if headers["Content-Type"] != CONTENT or body.get("schemaType") != "JSON":
            return 422, {"error_code": 42201, "message": "Input schema is an invalid Avro schema"}
        parts = [unquote(part) for part in urlsplit(path).path.split("/")]
        if parts[1:2] == ["subjects"] and parts[3:] == ["versions"]:
            return self._register(parts[2], body["schema"])
        if parts[1:3] == ["compatibility", "subjects"] and parts[4:] == ["versions", "latest"]:
            return self._compare(parts[3], body["schema"])
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _register(self, subject: str, schema: str) -> tuple[int, dict[str, Any]]:
        known = self.subjects.setdefault(subject, [])
        if schema not in known:
            if known and (found := problems(known[-1], schema)):
                return 409, {"error_code": 409, "message": f"incompatible: {found}"}
            known.append(schema)
        return 200, {"id": self.ids.setdefault(schema, len(self.ids) + 1)}

    def _compare(self, subject: str, schema: str) -> tuple[int, dict[str, Any]]:
        if subject not in self.subjects:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        found = problems(self.subjects[subject][-1], schema)
        return 200, {"is_compatible": not found, **({"messages": found} if found else {})}


def problems(old: str, new: str) -> list[str]:
    before, after = (set(json.loads(text).get("required", ())) for text in (old, new))
    return [f"REQUIRED_PROPERTY_ADDED: {name}" for name in sorted(after - before)]


@contextmanager
def running(double: RegistryDouble) -> Iterator[RegistryDouble]:
    """Serve it on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            status, answer = double.answer(self.path, self.headers, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    double.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""Who logs: the service, the host, and where it runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import unquote

__all__ = ["identity"]

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def identity(service: str | None) -> dict[str, str | None]:
    """Return service, hostname, namespace and cluster; read once, not with every line.

    The service is `service`, or what OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES says.
    """
    return {
        "service": service or _service() or "unknown_service",
        "hostname": socket.gethostname(),
        "namespace": _namespace(),
        "cluster": os.environ.get("CLUSTER"),
    }


def _service() -> str | None:
    # https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    if name := os.environ.get("OTEL_SERVICE_NAME"):
        return name
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and value.strip():
            return unquote(value.strip())
    return None


def _namespace() -> str | None:
    try:
        return _NAMESPACE.read_text().strip() or None
    except (OSError, ValueError):
        return None

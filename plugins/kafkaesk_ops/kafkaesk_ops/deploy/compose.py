"""Docker: an image of the service, and a compose file with Kafka, Prometheus and Grafana."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from .dashboard import dashboard_of
from .kubernetes import USER
from .rules import rules_of
from .service import Service

__all__ = ["compose_files", "dockerfile", "dump_yaml"]

DOCKERFILE = """\
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /source
COPY . .
RUN uv venv /venv && uv pip install --no-cache --python /venv/bin/python . kafkaesk-ops

FROM python:3.13-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 KAFKAESK_OPS_HOST=0.0.0.0 KAFKAESK_OPS_PORT={port}
EXPOSE {port}
USER {user}
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s CMD ["kafkaesk", "status", "{port}"]
ENTRYPOINT ["kafkaesk"]
CMD ["{app}"]
"""
KAFKA = {
    "KAFKA_NODE_ID": 1,
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka:9093",
    "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:9092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": 1,
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": 1,
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": 1,
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": 0,
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
}
ANSWERS = "/opt/kafka/bin/kafka-broker-api-versions.sh"


def dockerfile(service: Service) -> str:
    """Return a Dockerfile with two stages, so that the image has no build tools."""
    return DOCKERFILE.format(port=service.port, user=USER, app=service.app)


def dump_yaml(*documents: dict[str, Any]) -> str:
    """Return documents as YAML, in the order of their keys."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """Repeat a value instead of using YAML aliases, because people read the file."""
        return True


def compose_files(service: Service, build: Mapping[str, str]) -> dict[str, str]:
    """Return the files by path; `docker compose up` runs everything."""
    source = {"name": "Prometheus", "type": "prometheus", "url": "http://prometheus:9090"}
    scraped = {"job_name": service.name, "static_configs": [{"targets": [_target(service)]}]}
    prometheus = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [scraped],
    }
    provider = {"name": "kafkaesk", "type": "file", "options": {"path": "/etc/dashboards"}}
    return {
        "compose.yml": dump_yaml(_compose(service, build)),
        "prometheus.yml": dump_yaml(prometheus),
        "rules.yml": dump_yaml(rules_of(service)),
        "grafana/datasources/prometheus.yml": dump_yaml(
            {"apiVersion": 1, "datasources": [{**source, "isDefault": True}]}
        ),
        "grafana/dashboards/kafkaesk.yml": dump_yaml({"apiVersion": 1, "providers": [provider]}),
        "grafana/kafkaesk.json": json.dumps(dashboard_of(service.name), indent=2) + "\n",
    }


def _target(service: Service) -> str:
    return f"{service.name}:{service.port}"


def _compose(service: Service, build: Mapping[str, str]) -> dict[str, Any]:
    services = {
        "kafka": _kafka(),
        service.name: _own(service, build),
        "prometheus": {
            "image": "prom/prometheus:v3.5.0",
            "volumes": [
                "./prometheus.yml:/etc/prometheus/prometheus.yml:ro",
                "./rules.yml:/etc/prometheus/rules.yml:ro",
            ],
            "ports": ["9090:9090"],
        },
        "grafana": _grafana(),
    }
    return {"services": services}


def _kafka() -> dict[str, Any]:
    answers = {"test": ["CMD", ANSWERS, "--bootstrap-server", "kafka:9092"]}
    return {
        "image": "apache/kafka:4.3.1",
        "environment": KAFKA,
        "healthcheck": {**answers, "interval": "2s", "timeout": "10s", "retries": 30},
    }


def _own(service: Service, build: Mapping[str, str]) -> dict[str, Any]:
    return {
        "image": service.image,
        "build": dict(build),
        "command": [service.app],
        "environment": {
            "KAFKAESK_KAFKA_SERVERS": "kafka:9092",
            "KAFKAESK_OPS_PORT": str(service.port),
            "KAFKAESK_OPS_HOST": "0.0.0.0",
        },
        "stop_grace_period": f"{service.grace}s",
        "read_only": True,
        "depends_on": {"kafka": {"condition": "service_healthy"}},
        "ports": [f"{service.port}:{service.port}"],
    }


def _grafana() -> dict[str, Any]:
    provisioning = "./grafana/{0}:/etc/grafana/provisioning/{0}:ro"
    return {
        "image": "grafana/grafana:12.1.0",
        "environment": {
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": "/etc/dashboards/kafkaesk.json",
        },
        "volumes": [
            provisioning.format("datasources"),
            provisioning.format("dashboards"),
            "./grafana/kafkaesk.json:/etc/dashboards/kafkaesk.json:ro",
        ],
        "depends_on": ["prometheus"],
        "ports": ["3000:3000"],
    }

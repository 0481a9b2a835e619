"""Kubernetes: a Deployment, with the objects that scrape, watch and scale it."""

from __future__ import annotations

from typing import Any

from .rules import rules_of
from .service import Group, Service

__all__ = ["documents"]

LAG_PER_MEMBER = "1000"
USER = 10001


def documents(service: Service) -> list[dict[str, Any]]:
    """Return all documents; the last ones are for the Prometheus operator and KEDA."""
    found = [_deployment(service), _pod_monitor(service), _prometheus_rule(service)]
    return [*found, _scaled_object(service)] if service.groups else found


def _metadata(service: Service) -> dict[str, Any]:
    return {"name": service.name, "labels": _labels(service)}


def _labels(service: Service) -> dict[str, str]:
    return {"app.kubernetes.io/name": service.name}


def _deployment(service: Service) -> dict[str, Any]:
    pod = {
        "terminationGracePeriodSeconds": service.grace,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(service)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(service),
        "spec": {
            "selector": {"matchLabels": _labels(service)},
            # A pod more while it rolls: no partition waits for a pod that has not started.
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": _labels(service)}, "spec": pod},
        },
    }


def _container(service: Service) -> dict[str, Any]:
    environment = {
        "KAFKAESK_KAFKA_SERVERS": service.servers,
        "KAFKAESK_OPS_PORT": str(service.port),
        "KAFKAESK_OPS_HOST": "0.0.0.0",
        **({"KAFKAESK_TOPIC_PREFIX": service.topic_prefix} if service.topic_prefix else {}),
    }
    secret = {"name": f"{service.name}-kafka", "key": "settings", "optional": True}
    return {
        "name": service.name,
        "image": service.image,
        "args": [service.app],
        "env": [
            *({"name": name, "value": value} for name, value in environment.items()),
            {"name": "KAFKAESK_KAFKA_SETTINGS", "valueFrom": {"secretKeyRef": secret}},
        ],
        "ports": [{"name": "ops", "containerPort": service.port}],
        "startupProbe": _probe("/started", period=2, failures=30),
        "livenessProbe": _probe("/live", period=10, failures=3),
        "readinessProbe": _probe("/ready", period=5, failures=1),
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "ops"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _pod_monitor(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": _metadata(service),
        "spec": {
            "selector": {"matchLabels": _labels(service)},
            "podMetricsEndpoints": [{"port": "ops", "path": "/metrics", "interval": "15s"}],
        },
    }


def _prometheus_rule(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _metadata(service),
        "spec": rules_of(service),
    }


def _scaled_object(service: Service) -> dict[str, Any]:
    """Return one object for all groups; KEDA refuses a second one for the same Deployment."""
    triggers = [trigger for group in service.groups for trigger in _triggers(service, group)]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _metadata(service),
        "spec": {
            "scaleTargetRef": {"name": service.name},
            "minReplicaCount": 1,
            # A member more than there are partitions would stand by.
            "maxReplicaCount": max(group.partitions for group in service.groups),
            "cooldownPeriod": 300,
            "triggers": triggers,
        },
    }


def _triggers(service: Service, group: Group) -> list[dict[str, Any]]:
    every: dict[str, str] = {
        "bootstrapServers": service.servers,
        "consumerGroup": group.name,
        "lagThreshold": LAG_PER_MEMBER,
        "offsetResetPolicy": "earliest",
        "excludePersistentLag": "true",
    }
    found = [{**every, "topic": each, "limitToPartitionsWithLag": "true"} for each in group.topics]
    if group.has_pattern:
        found.append(every)  # of all topics of the group; the limit is only for a topic
    return [{"type": "kafka", "metadata": metadata} for metadata in found]
